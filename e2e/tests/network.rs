//! Who reaches whom on a real cluster with the network enforcer: real packets from pods in machines.
//!
//! Each refusal has a control: the same address answers, in the same moment, somebody whom nothing keeps away from it.
//! `FREEHOLD_NODE` is a command that runs another one on the node, split at spaces.
#![cfg(feature = "live")]

use std::fmt::Debug;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use freehold_e2e::evidence::network::answers;
use freehold_e2e::evidence::stage::{self, Stage};
use freehold_e2e::evidence::{STAGE_A, STAGE_B, kernel};
use freehold_e2e::{People, objects, people, wait};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use kube::api::{Api, AttachParams, AttachedProcess, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Rules come a moment after the objects they follow from.
const IN_FORCE: Duration = Duration::from_secs(30);
/// A machine starts, and the enforcer comes back, under emulation on a busy node.
const STARTED: Duration = Duration::from_secs(120);
/// How long an open connection may be silent before it counts as stopped.
const SILENT: Duration = Duration::from_secs(3);
/// A namespace of nobody's, whose pod is nobody's too.
const NOBODYS: &str = "nobodys";
/// Where metadata services of clouds are.
const METADATA: &str = "169.254.169.254";
/// A port of the node by which a Service of nobody's is reached.
const NODE_PORT: u16 = 30080;

/// A command on the node.
fn node(command: &[&str]) -> anyhow::Result<Command> {
    let told = std::env::var("FREEHOLD_NODE").context("FREEHOLD_NODE names no command that runs another on the node")?;
    let mut words = told.split_whitespace();
    let mut built = Command::new(words.next().context("FREEHOLD_NODE is empty")?);
    built.args(words).args(command).stdin(Stdio::null());
    Ok(built)
}

/// What a command on the node prints.
fn said(command: &[&str]) -> anyhow::Result<String> {
    let output = node(command)?.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A server on the node, for as long as the test runs.
struct Server(Child);

impl Server {
    fn at(address: &str) -> anyhow::Result<Self> {
        // A group of its own, as what runs it on the node may be several processes.
        Ok(Self(node(&["busybox", "httpd", "-f", "-p", address, "-h", "/etc"])?.process_group(0).spawn()?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing to lose, and goes with the cluster if this fails.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

/// Creates what is not there yet from another test.
async fn put<K>(api: Api<K>, object: Value) -> anyhow::Result<()>
where
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    let name = object["metadata"]["name"].as_str().context("an object without a name")?;
    if api.get_opt(name).await?.is_none() {
        api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    }
    Ok(())
}

/// Every live test has the stage of the demo, and a pod of nobody's beside it, whose address is the last.
async fn set() -> anyhow::Result<(People, Stage, String)> {
    let people = People::from_environment().await?;
    for tenant in ["team-a", "team-b"] {
        stage::tenant(&people.platform, &std::path::Path::new("../examples").join(format!("{tenant}.yaml"))).await?;
    }
    let stage = stage::set(&people).await?;
    let platform = &people.platform;
    put::<Namespace>(Api::all(platform.clone()), json!({"metadata": {"name": NOBODYS}})).await?;
    let service = |name: &str, app: &str| json!({"metadata": {"name": name}, "spec": {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 8080}]}});
    let mut open = service("open", "web");
    open["spec"]["type"] = json!("NodePort");
    open["spec"]["ports"][0]["nodePort"] = json!(NODE_PORT);
    put::<Service>(Api::namespaced(platform.clone(), NOBODYS), open).await?;
    put::<Service>(Api::namespaced(people.alice.clone(), STAGE_A), service("beside", "neighbour")).await?;
    put::<Service>(Api::namespaced(people.bob.clone(), STAGE_B), service("foreign", "web")).await?;
    let pods: Api<Pod> = Api::namespaced(platform.clone(), NOBODYS);
    let container = json!({"name": "main", "image": objects::image(), "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c", kernel::SCRIPT]});
    let pod = json!({"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}});
    put(pods.clone(), pod).await?;
    let address = wait::until("nobody's pod to run", STARTED, || async {
        let status = pods.get("web").await?.status.unwrap_or_default();
        ensure!(status.phase.as_deref() == Some("Running"), "{:?}", status.phase);
        status.pod_ip.context("it has no address")
    })
    .await?;
    Ok((people, stage, address))
}

async fn address_of(client: &Client, namespace: &str, service: &str) -> anyhow::Result<String> {
    let found = Api::<Service>::namespaced(client.clone(), namespace).get(service).await?;
    found.spec.and_then(|spec| spec.cluster_ip).with_context(|| format!("Service {namespace}/{service} has no address"))
}

/// Addresses of the pods of one of our programs.
async fn program(client: &Client, name: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "freehold-system");
    let running = ListParams::default().labels(&format!("app.kubernetes.io/name={name}")).fields("status.phase=Running");
    let found = pods.list(&running).await?.items.into_iter().find_map(|pod| pod.status?.pod_ip);
    found.with_context(|| format!("no pod of {name} runs"))
}

/// Who is asked as the control.
#[derive(Clone, Copy, PartialEq)]
enum Control {
    /// The row is a control itself.
    Itself,
    /// A pod of nobody's reaches it.
    Nobodys,
    /// Bob's own pod reaches it.
    Bobs,
    /// The node reaches it.
    Node,
}

#[tokio::test]
async fn a_tenants_pod_reaches_its_own_and_nobody_else() -> anyhow::Result<()> {
    let (people, stage, nobodys) = set().await?;
    let platform = &people.platform;
    let on = Api::<Node>::all(platform.clone()).get(&stage.a.node).await?.status.unwrap_or_default();
    let node_address = on.addresses.unwrap_or_default().into_iter().find(|one| one.type_ == "InternalIP");
    let node_address = node_address.context("the node has no address")?.address;
    // The cluster's etcd is on the node's loopback: this one stands where others have theirs.
    let _etcd = Server::at(&format!("{node_address}:2379"))?;
    said(&["sh", "-c", &format!("ip address replace {METADATA}/32 dev lo")])?;
    let _metadata = Server::at(&format!("{METADATA}:80"))?;
    let bridge = said(&["sh", "-c", "ip -4 -o address show dev cni0 | sed 's/.* inet \\([0-9.]*\\).*/\\1/'"])?;
    let bridge = bridge.trim();
    let _bridge = Server::at(&format!("{bridge}:2380"))?;

    let rows: Vec<(&str, String, u16, Control)> = vec![
        ("its neighbour", stage.neighbour.address.clone(), 8080, Control::Itself),
        ("its neighbour by a Service", address_of(platform, STAGE_A, "beside").await?, 80, Control::Itself),
        ("another tenant's pod", stage.b.address.clone(), 8080, Control::Bobs),
        ("another tenant's Service", address_of(platform, STAGE_B, "foreign").await?, 80, Control::Bobs),
        ("nobody's pod", nobodys, 8080, Control::Nobodys),
        ("nobody's Service", address_of(platform, NOBODYS, "open").await?, 80, Control::Nobodys),
        ("a node port", node_address.clone(), NODE_PORT, Control::Nobodys),
        ("the metadata address", METADATA.to_owned(), 80, Control::Nobodys),
        ("the kubelet", node_address.clone(), 10250, Control::Nobodys),
        ("the node by the bridge's address", bridge.to_owned(), 2380, Control::Nobodys),
        ("etcd's port", node_address.clone(), 2379, Control::Nobodys),
        ("the API server", node_address.clone(), 6443, Control::Nobodys),
        ("the API server's Service", address_of(platform, "default", "kubernetes").await?, 443, Control::Nobodys),
        ("the webhook", program(platform, "freehold-webhook").await?, 8443, Control::Nobodys),
        ("the webhook's metrics", program(platform, "freehold-webhook").await?, 8081, Control::Node),
        ("the operator's metrics", program(platform, "freehold-operator").await?, 8081, Control::Node),
    ];
    wait::until("everything to be as promised", IN_FORCE, || async {
        let asked = rows.iter().map(|(what, address, port, control)| {
            let people = &people;
            let stage = &stage;
            async move {
                let reached = answers(platform, STAGE_A, &stage.a.pod, address, *port).await?;
                let control_reached = match control {
                    Control::Itself => true,
                    Control::Nobodys => answers(platform, NOBODYS, "web", address, *port).await?,
                    Control::Bobs => answers(&people.bob, STAGE_B, &stage.b.pod, address, *port).await?,
                    Control::Node => {
                        let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 3 {address} {port} | head -c 1");
                        !said(&["sh", "-c", &ask])?.is_empty()
                    }
                };
                anyhow::Ok(match (reached == (*control == Control::Itself), control_reached) {
                    (true, true) => None,
                    (as_meant, _) => Some(format!("{what} ({address}:{port}): as meant: {as_meant}, control: {control_reached}")),
                })
            }
        });
        let wrong: Vec<_> = try_join_all(asked).await?.into_iter().flatten().collect();
        ensure!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    })
    .await?;
    // And nobody's pod does not reach a tenant's.
    ensure!(!answers(platform, NOBODYS, "web", &stage.a.address, 8080).await?, "nobody's pod reaches a tenant's");
    Ok(())
}

/// An open connection from alice's pod to an echo beside it.
struct Connection {
    stdin: Box<dyn AsyncWrite + Unpin>,
    stdout: Box<dyn AsyncRead + Unpin>,
    // They end with what holds them.
    _processes: [AttachedProcess; 2],
    sent: u32,
    seen: String,
}

impl Connection {
    async fn open(platform: &Client, stage: &Stage) -> anyhow::Result<Self> {
        let pods: Api<Pod> = Api::namespaced(platform.clone(), STAGE_A);
        let listen = ["sh", "-c", "exec nc -ll -p 9000 -e cat"];
        let server = pods.exec(&stage.neighbour.pod, listen, &AttachParams::default().stderr(false)).await?;
        // The echo listens a moment later.
        let connect = format!("until nc {} 9000; do sleep 0.2; done", stage.neighbour.address);
        let parameters = AttachParams::default().stdin(true).stderr(false);
        let mut client = pods.exec(&stage.a.pod, ["sh", "-c", &connect], &parameters).await?;
        let stdin = Box::new(client.stdin().context("the connection takes nothing")?);
        let stdout = Box::new(client.stdout().context("the connection gives nothing")?);
        let mut connection = Self { stdin, stdout, _processes: [client, server], sent: 0, seen: String::new() };
        connection.becomes(true).await?;
        Ok(connection)
    }

    /// Whether what is sent now comes back before it counts as silent.
    async fn carries(&mut self) -> anyhow::Result<bool> {
        self.sent += 1;
        let line = format!("line {}\n", self.sent);
        self.stdin.write_all(line.as_bytes()).await?;
        self.stdin.flush().await?;
        let echoed = async {
            let mut buffer = [0; 1024];
            while !self.seen.contains(&line) {
                let n = self.stdout.read(&mut buffer).await?;
                ensure!(n > 0, "the connection was closed; it gave: {}", self.seen);
                self.seen += &String::from_utf8_lossy(&buffer[..n]);
            }
            Ok(())
        };
        match tokio::time::timeout(SILENT, echoed).await {
            Ok(outcome) => outcome.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Waits until it carries, or no longer does.
    async fn becomes(&mut self, carrying: bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.carries().await? != carrying {
            ensure!(began.elapsed() < IN_FORCE, "after {IN_FORCE:?} the open connection still carries: {}", !carrying);
        }
        Ok(())
    }
}

/// Waits until one pod of alice's reaches an address, or no longer does.
async fn becomes(platform: &Client, from: &str, address: &str, reached: bool) -> anyhow::Result<()> {
    wait::until(&format!("{from} to reach {address}: {reached}"), IN_FORCE, || async {
        ensure!(answers(platform, STAGE_A, from, address, 8080).await? == reached, "not so");
        Ok(())
    })
    .await
}

/// Waits until a pod of alice's is ready: the kubelet's probe, which comes from the node, got through.
async fn ready(platform: &Client, name: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(platform.clone(), STAGE_A);
    wait::until(&format!("pod {name} to be ready"), STARTED, || async {
        let status = pods.get(name).await?.status.unwrap_or_default();
        let ready = status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
        ensure!(ready, "{:?} {:?}", status.phase, status.conditions);
        status.pod_ip.context("it has no address")
    })
    .await
}

/// A pod of alice's that serves, and is ready once it answers the kubelet.
fn probed(name: &str) -> Pod {
    let probe = json!({"httpGet": {"port": 8080}, "periodSeconds": 1});
    objects::pod(name, kernel::SCRIPT, &[("/containers/0/readinessProbe", probe)])
}

fn policy(name: &str, ingress: Value, egress: Value) -> NetworkPolicy {
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": ingress, "egress": egress});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a NetworkPolicy")
}

#[tokio::test]
async fn a_tenants_own_policies_narrow_and_never_widen() -> anyhow::Result<()> {
    let (people, stage, _) = set().await?;
    let platform = &people.platform;
    let (a, b, neighbour) = (&stage.a.pod, &stage.b.address, &stage.neighbour.address);
    let policies: Api<NetworkPolicy> = Api::namespaced(people.alice.clone(), STAGE_A);
    let pods: Api<Pod> = Api::namespaced(people.alice.clone(), STAGE_A);
    let mut connection = Connection::open(platform, &stage).await?;

    policies.create(&PostParams::default(), &policy("deny-all", json!([]), json!([]))).await?;
    connection.becomes(false).await.context("alice denied everything")?;
    becomes(platform, a, neighbour, false).await?;
    pods.create(&PostParams::default(), &probed("denied")).await?;
    ready(platform, "denied").await.context("probes come from the node, and no policy stops them")?;
    policies.delete("deny-all", &DeleteParams::default()).await?;
    connection.becomes(true).await.context("the denial is gone")?;
    becomes(platform, a, neighbour, true).await?;
    pods.delete("denied", &DeleteParams::default()).await?;

    // As the operator, who may: whether alice may write such a policy is for admission to say, what it does is for the table.
    let operator = people::client("FREEHOLD_KUBECONFIG_OPERATOR").await?;
    for namespace in [STAGE_A, STAGE_B] {
        let policies: Api<NetworkPolicy> = Api::namespaced(operator.clone(), namespace);
        policies.create(&PostParams::default(), &policy("open-all", json!([{}]), json!([{}]))).await?;
    }
    // Another policy of alice's that can be seen says when the table has had both.
    let shut = json!({"podSelector": {"matchLabels": {"app": "neighbour"}}, "policyTypes": ["Ingress"]});
    policies
        .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "later"}, "spec": shut}))?)
        .await?;
    Api::<NetworkPolicy>::namespaced(operator.clone(), STAGE_A).delete("open-all", &DeleteParams::default()).await?;
    becomes(platform, a, neighbour, false).await.context("alice shut one pod")?;
    Api::<NetworkPolicy>::namespaced(operator.clone(), STAGE_A)
        .create(&PostParams::default(), &policy("open-all", json!([{}]), json!([{}])))
        .await?;
    becomes(platform, a, neighbour, true).await.context("open-all opens what the tenant shut itself")?;
    ensure!(!answers(platform, STAGE_A, a, b, 8080).await?, "a policy that opens everything opened another tenant");
    policies.delete("later", &DeleteParams::default()).await?;
    for namespace in [STAGE_A, STAGE_B] {
        Api::<NetworkPolicy>::namespaced(operator.clone(), namespace).delete("open-all", &DeleteParams::default()).await?;
    }
    Ok(())
}

/// Takes the enforcer off the node, or puts it back, and waits until that is so.
async fn enforcer(platform: &Client, there: bool) -> anyhow::Result<()> {
    let sets: Api<DaemonSet> = Api::namespaced(platform.clone(), "freehold-node");
    let nowhere = if there { Value::Null } else { json!("true") };
    let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {"freehold.dev/nowhere": nowhere}}}}});
    sets.patch("freehold-network-enforcer", &PatchParams::default(), &Patch::Merge(patch)).await?;
    let pods: Api<Pod> = Api::namespaced(platform.clone(), "freehold-node");
    let own = ListParams::default().labels("app.kubernetes.io/name=freehold-network-enforcer");
    wait::until(&format!("the enforcer to be there: {there}"), STARTED, || async {
        let found = pods.list(&own).await?.items;
        let ready = found.iter().filter(|pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
        });
        ensure!((ready.count() > 0) == there && (there || found.is_empty()), "{} pods", found.len());
        Ok(())
    })
    .await
}

/// What must hold while no enforcer runs on the node.
async fn without_enforcer(people: &People, stage: &Stage, connection: &mut Connection) -> anyhow::Result<String> {
    let platform = &people.platform;
    ensure!(connection.carries().await?, "the open connection ended with the enforcer");
    ensure!(!answers(platform, STAGE_A, &stage.a.pod, &stage.b.address, 8080).await?, "another tenant's pod answers");
    ensure!(answers(platform, STAGE_A, &stage.a.pod, &stage.neighbour.address, 8080).await?, "the neighbour does not answer");
    // Nobody tells the table of this one: its probe comes through, and nothing else.
    Api::<Pod>::namespaced(people.alice.clone(), STAGE_A).create(&PostParams::default(), &probed("unknown")).await?;
    let address = ready(platform, "unknown").await?;
    ensure!(!answers(platform, STAGE_A, &stage.a.pod, &address, 8080).await?, "a pod that is not known yet is reached");
    ensure!(
        !answers(platform, STAGE_A, "unknown", &stage.neighbour.address, 8080).await?,
        "a pod that is not known yet gets out"
    );
    Ok(address)
}

#[tokio::test]
async fn a_restart_opens_nothing_and_breaks_nothing() -> anyhow::Result<()> {
    let (people, stage, _) = set().await?;
    let platform = &people.platform;
    let (a, b) = (&stage.a.pod, &stage.b.address);
    let mut connection = Connection::open(platform, &stage).await?;

    enforcer(platform, false).await?;
    let held = without_enforcer(&people, &stage, &mut connection).await;
    // Also where that failed: the cluster is somebody's.
    let (back, leaked) = tokio::join!(enforcer(platform, true), async {
        let mut leaked = Vec::new();
        for _ in 0..3 {
            leaked.push(answers(platform, STAGE_A, a, b, 8080).await);
        }
        leaked
    });
    back?;
    let unknown = held?;
    for answer in leaked {
        ensure!(!answer?, "another tenant's pod answered while the enforcer came back");
    }
    ensure!(connection.carries().await?, "the open connection ended when the enforcer came back");
    becomes(platform, a, &unknown, true).await.context("it is known now")?;
    Api::<Pod>::namespaced(people.alice.clone(), STAGE_A).delete("unknown", &DeleteParams::default()).await?;

    said(&["nft", "flush", "table", "inet", "freehold"])?;
    becomes(platform, a, b, false).await.context("someone flushed the table by hand")?;
    ensure!(connection.carries().await?, "the open connection ended");
    Ok(())
}
