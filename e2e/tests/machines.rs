//! Pods in machines on a real cluster: that a machine is what it is said to be, asked of QEMU and of the node's kernel.
//!
//! `scripts/pods` runs it while its pods `vm` and `control` are up. `FREEHOLD_KUBECONFIG` is an administrator's,
//! `FREEHOLD_NODE` a command that runs another one as root on the pods' node, `FREEHOLD_SHIM` the shim's path there.
#![cfg(feature = "machines")]

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use freehold_e2e::{people, wait};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, AttachParams, GetParams, TerminalSize};
use kube::core::Request;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The kubelet collects every 10 s, containerd's snapshotter too.
const COUNTED: Duration = Duration::from_secs(60);
/// Time for a terminal to answer, under emulation on a busy machine.
const ANSWERED: Duration = Duration::from_secs(20);

/// Runs a command on the node and gives what it prints.
fn node(command: &[&str]) -> anyhow::Result<String> {
    let way = std::env::var("FREEHOLD_NODE").context("FREEHOLD_NODE is not set: a command that runs others on the node")?;
    let mut words = way.split_whitespace();
    let output = Command::new(words.next().context("FREEHOLD_NODE is empty")?).args(words).args(command).output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The sandbox of a pod, by the specs in containerd's folders.
fn sandbox(pod: &str) -> anyhow::Result<String> {
    let find = r#"cd /run/containerd/io.containerd.runtime.v2.task/k8s.io && grep -l '"io.kubernetes.cri.container-type":"sandbox"' */config.json |
        xargs grep -l "\"io.kubernetes.cri.sandbox-name\":\"$0\"""#;
    let found = node(&["sh", "-c", find, pod])?;
    let first = found.lines().next().with_context(|| format!("pod {pod} has no sandbox on the node"))?;
    Ok(first.trim_end_matches("/config.json").to_owned())
}

fn inspect(sandbox: &str, question: &str) -> anyhow::Result<Value> {
    let shim = std::env::var("FREEHOLD_SHIM").context("FREEHOLD_SHIM is not set: the shim's path on the node")?;
    let said = node(&[&shim, "inspect", sandbox, question])?;
    serde_json::from_str(&said).with_context(|| format!("{question}: {said}"))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Snapshots below the containers of a pod: its image layers.
fn layers(containers: &[String]) -> anyhow::Result<BTreeSet<String>> {
    let said = node(&["ctr", "-n", "k8s.io", "snapshots", "ls"])?;
    let parents: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    let parent = |key: &str| parents.iter().find(|row| row.len() == 3 && row[0] == key).map(|row| row[1].to_owned());
    let mut found = BTreeSet::new();
    for container in containers {
        let mut at = parent(container);
        while let Some(layer) = at {
            at = parent(&layer);
            found.insert(layer);
        }
    }
    Ok(found)
}

async fn containers(client: &Client, pod: &str) -> anyhow::Result<Vec<String>> {
    let pod = Api::<Pod>::default_namespaced(client.clone()).get(pod).await?;
    let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
    Ok(statuses.into_iter().filter_map(|s| s.container_id).map(|id| id.trim_start_matches("containerd://").to_owned()).collect())
}

#[tokio::test]
async fn a_machine_shares_no_folder_and_has_one_read_only_disk_a_layer() -> anyhow::Result<()> {
    let client = people::client("FREEHOLD_KUBECONFIG").await?;
    let sandbox = sandbox("vm")?;
    let arguments = inspect(&sandbox, "arguments")?.to_string();
    ensure!(arguments.contains("qemu-system-x86_64") && arguments.contains("-sandbox"), "that is not QEMU: {arguments}");
    for word in ["-fsdev", "-virtfs", "9p", "virtiofs", "vhost-user", "vvfat", "nbd:"] {
        ensure!(!arguments.contains(word), "{word} is among QEMU's arguments: {arguments}");
    }
    // Whatever was plugged later is on the PCI bus: 0x1009 and 0x1049 are virtio-9p, 0x105a is virtio-fs.
    let pci = inspect(&sandbox, "pci")?;
    let devices = pci.to_string();
    ensure!(devices.contains("\"vendor\":6900"), "no virtio device on the PCI bus: {devices}");
    for id in [0x1009, 0x1049, 0x105a] {
        ensure!(!devices.contains(&format!("\"device\":{id},")), "a device {id:#x} that shares folders: {devices}");
    }

    let mut read_only = 0;
    let blocks = inspect(&sandbox, "blocks")?;
    for block in list(&blocks) {
        let inserted = &block["inserted"];
        ensure!(inserted["drv"] == "raw", "a disk is not raw: {block}");
        read_only += u32::from(inserted["ro"] == true);
    }
    let layers = layers(&containers(&client, "vm").await?)?;
    ensure!(!layers.is_empty(), "the pod's image has no layers");
    ensure!(read_only as usize == layers.len(), "{read_only} read-only disks for the layers {layers:?}: {blocks}");
    for entry in list(&inspect(&sandbox, "nodes")?) {
        let file = entry["file"].as_str().unwrap_or_default();
        ensure!(file.starts_with("/dev/fdset/"), "QEMU opened a file of the node by name: {entry}");
    }
    Ok(())
}

#[tokio::test]
async fn a_terminal_takes_every_new_size() -> anyhow::Result<()> {
    let client = people::client("FREEHOLD_KUBECONFIG").await?;
    let parameters = AttachParams::interactive_tty().container("main");
    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut process = pods.exec("vm", ["sh"], &parameters).await?;
    let mut sizes = process.terminal_size().context("the process takes no sizes")?;
    let (mut stdin, mut stdout) = (process.stdin().context("no stdin")?, process.stdout().context("no stdout")?);
    for (height, width) in [(33, 101), (48, 77)] {
        futures::SinkExt::send(&mut sizes, TerminalSize { height, width }).await.ok().context("the size was not taken")?;
        let (expect, mut seen) = (format!("{height} {width}"), String::new());
        let answered = async {
            let mut buffer = [0; 1024];
            while !seen.contains(&expect) {
                // Sizes and bytes have ways of their own, so the first answer may be about the size before.
                stdin.write_all(b"stty size\n").await?;
                let n = stdout.read(&mut buffer).await?;
                ensure!(n > 0, "the terminal was closed");
                seen += &String::from_utf8_lossy(&buffer[..n]);
            }
            Ok(())
        };
        let result = tokio::time::timeout(ANSWERED, answered).await;
        result.with_context(|| format!("no size {expect} in {} s; seen: {seen}", ANSWERED.as_secs()))??;
    }
    process.abort();
    Ok(())
}

#[tokio::test]
async fn what_a_container_writes_is_counted_by_the_kubelet() -> anyhow::Result<()> {
    const WRITTEN: u64 = 60 * 1024 * 1024;
    let client = people::client("FREEHOLD_KUBECONFIG").await?;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let on = pods.get("vm").await?.spec.and_then(|spec| spec.node_name).context("the pod is on no node")?;
    let stats = Request::new(format!("/api/v1/nodes/{on}/proxy/stats"));
    let used = async || -> anyhow::Result<u64> {
        let summary: Value = client.request(stats.get("summary", &GetParams::default())?).await?;
        let pod = list(&summary["pods"]).find(|pod| pod["podRef"]["name"] == "vm").context("the kubelet has no figures of it")?;
        pod["ephemeral-storage"]["usedBytes"].as_u64().context("the kubelet has no figure of its storage")
    };
    let before = wait::until("the kubelet's first figure", COUNTED, &used).await?;
    let write = ["sh", "-c", "head -c 60m /dev/urandom >/written && sync"];
    let mut process = pods.exec("vm", write, &AttachParams::default().container("main").stdin(false)).await?;
    let status = process.take_status().context("the process has no end")?.await.context("the process did not end")?;
    ensure!(status.status.as_deref() == Some("Success"), "the container could not write: {status:?}");
    wait::until("60 MiB in the kubelet's figures", COUNTED, async || {
        let after = used().await?;
        ensure!(after >= before + WRITTEN, "{before} bytes before, {after} after");
        Ok(())
    })
    .await
}

/// One process of the node, by the kernel's own words.
struct Process(u64);

impl Process {
    /// Runs shell words in which `$p` is the process's folder in /proc.
    fn ask(&self, words: &str) -> anyhow::Result<String> {
        node(&["sh", "-c", &format!("p=/proc/$0; {words}"), &self.0.to_string()])
    }

    /// Values of a field in the status of each of its threads.
    fn status(&self, field: &str) -> anyhow::Result<BTreeSet<String>> {
        let found = self.ask(&format!("grep -h '^{field}:' $p/task/*/status"))?;
        let values = found.lines().filter_map(|line| line.split_once(':')).map(|(_, value)| value.trim().replace('\t', " "));
        Ok(values.collect())
    }

    fn namespace(&self, kind: &str) -> anyhow::Result<String> {
        self.ask(&format!("readlink $p/ns/{kind}"))
    }
}

fn is(what: &str, found: &BTreeSet<String>, expect: &str) -> anyhow::Result<()> {
    ensure!(found.len() == 1 && found.contains(expect), "{what} of its threads: {found:?}, not {expect}");
    Ok(())
}

/// Checks one pod's QEMU and gives its user.
fn confined(pod: &str) -> anyhow::Result<u64> {
    let processes = inspect(&sandbox(pod)?, "process")?;
    let number = |name: &str| processes[name].as_u64().with_context(|| format!("no {name} in {processes}"));
    let (qemu, supervisor, shim) = (Process(number("qemu")?), Process(number("supervisor")?), Process(number("shim")?));
    let user = number("user")?;
    ensure!(user >= 65_536, "QEMU runs as a user that people or services may have: {user}");
    for field in ["Uid", "Gid"] {
        is(field, &qemu.status(field)?, &format!("{user} {user} {user} {user}"))?;
    }
    is("Groups", &qemu.status("Groups")?, "")?;
    is("Seccomp", &qemu.status("Seccomp")?, "2")?;
    for process in [&qemu, &supervisor] {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            is(set, &process.status(set)?, "0000000000000000")?;
        }
        is("NoNewPrivs", &process.status("NoNewPrivs")?, "1")?;
        for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            ensure!(process.namespace(kind)? != shim.namespace(kind)?, "{pod}: the {kind} namespace is the node's");
        }
    }
    // A machine dies before its shim does: who kills for memory looks at these.
    let score = |process: &Process| -> anyhow::Result<i32> { Ok(process.ask("cat $p/oom_score_adj")?.trim().parse()?) };
    ensure!(score(&qemu)? >= score(&shim)?, "{pod}: the shim would be killed before its machine");
    ensure!(qemu.ask("cat $p/cgroup")?.contains("kubepods"), "{pod}: QEMU is not in the pod's cgroup");
    let interfaces = |process: &Process| process.ask("cut -d: -f1 $p/net/dev | grep -v '|' | tr -d ' ' | sort | tr '\\n' ' '");
    ensure!(interfaces(&qemu)? == "lo ", "{pod}: QEMU's network has interfaces");
    // By its supervisor, the task's pid, the kubelet finds the pod's network and its figures.
    ensure!(interfaces(&supervisor)? == "eth0 lo vethvm0 ", "{pod}: the supervisor's network: {}", interfaces(&supervisor)?);

    // Its root: the bundle's files for it and a line about memory; nothing can be written.
    let seen = qemu.ask("cd $p/root && find . -xdev ! -type d; cat $p/mounts | cut -d' ' -f2,4")?;
    let expect = ["./bundle/guest/initrd.lz4", "./bundle/guest/vmlinux", "./proc/sys/vm/overcommit_memory"];
    let files: BTreeSet<&str> = seen.lines().filter(|line| line.starts_with("./")).collect();
    ensure!(files == BTreeSet::from(expect), "{pod}: files in QEMU's root: {files:?}");
    let mounts: Vec<_> = seen.lines().filter_map(|line| line.strip_prefix('/')?.split_once(' ')).collect();
    let places: BTreeSet<&str> = mounts.iter().map(|(place, _)| *place).collect();
    ensure!(places == BTreeSet::from(["", "bundle/qemu", "bundle/guest/vmlinux", "bundle/guest/initrd.lz4"]), "{mounts:?}");
    ensure!(mounts.iter().all(|(_, options)| options.starts_with("ro,nosuid,nodev")), "{pod}: {mounts:?}");
    for path in ["/etc/passwd", "/dev/kvm", "/dev/null", "/var/lib/kubelet", "/run", "/proc/self", "/bin/sh"] {
        ensure!(qemu.ask(&format!("! test -e $p/root{path}")).is_ok(), "{pod}: QEMU sees {path} of the node");
    }

    // Its descriptors: sockets, pipes and disks, none of them a folder, layers only for reading.
    let open = qemu.ask("for f in $p/fd/*; do echo \"$(readlink $f) $(stat -Lc %F $f | tr ' ' -) $(grep flags: $p/fdinfo/${f##*/} | cut -f2)\"; done")?;
    let mut disks = 0;
    for line in open.lines() {
        let (rest, flags) = line.rsplit_once(' ').context("no flags")?;
        let (name, kind) = rest.rsplit_once(' ').context("no kind")?;
        let writes = i64::from_str_radix(flags, 8)? & 3 != 0;
        let known = match kind {
            "regular-file" if name.contains("/layers/") => {
                disks += 1;
                !writes
            }
            "regular-file" | "regular-empty-file" => name.ends_with("/.freehold-disk") || name.starts_with("/memfd:"),
            "socket" | "fifo" => true,
            "character-special-file" => name == "/dev/null" || name == "/dev/net/tun",
            _ => name.starts_with("anon_inode:"),
        };
        ensure!(known, "{pod}: QEMU holds {line}; all: {open}");
    }
    ensure!(disks > 0, "{pod}: QEMU holds no image layer: {open}");
    Ok(user)
}

#[tokio::test]
async fn qemu_is_confined_and_each_pods_is_another_user() -> anyhow::Result<()> {
    let (first, second) = (confined("vm")?, confined("other")?);
    ensure!(first != second, "two pods run as user {first}");
    Ok(())
}
