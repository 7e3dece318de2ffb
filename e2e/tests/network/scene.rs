//! The scene of these tests: two tenants with pods in machines, a pod of nobody's, one of the namespace that scrapes metrics, and commands on the node.

use std::fmt::Debug;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use freehold_crds::{Judged, NodeNetwork};
use freehold_e2e::evidence::network::answers;
use freehold_e2e::evidence::stage::{self, Stage};
use freehold_e2e::evidence::{STAGE_A, STAGE_B, kernel};
use freehold_e2e::{People, objects, wait};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Rules come a moment after the objects they follow from.
pub const IN_FORCE: Duration = Duration::from_secs(30);
/// A machine starts, and the enforcer comes back, under emulation on a busy node.
pub const STARTED: Duration = Duration::from_secs(120);
/// A namespace of nobody's, whose pod is nobody's too.
pub const NOBODYS: &str = "nobodys";
/// The namespace that the chart's values let scrape metrics.
pub const MONITORING: &str = "monitoring";
/// Where metadata services of clouds are.
pub const METADATA: &str = "169.254.169.254";
/// A port of the node by which a Service of nobody's is reached.
pub const NODE_PORT: u16 = 30080;

/// A command on the node.
pub fn node(command: &[&str]) -> anyhow::Result<Command> {
    let told = std::env::var("FREEHOLD_NODE").context("FREEHOLD_NODE names no command that runs another on the node")?;
    let mut words = told.split_whitespace();
    let mut built = Command::new(words.next().context("FREEHOLD_NODE is empty")?);
    built.args(words).args(command).stdin(Stdio::null());
    Ok(built)
}

/// What a command on the node prints.
pub fn said(command: &[&str]) -> anyhow::Result<String> {
    let output = node(command)?.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A server on the node, for as long as the test runs.
pub struct Server(Child);

impl Server {
    pub fn at(address: &str) -> anyhow::Result<Self> {
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
pub async fn put<K>(api: Api<K>, object: Value) -> anyhow::Result<()>
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
pub async fn set() -> anyhow::Result<(People, Stage, String)> {
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
    put::<Namespace>(Api::all(platform.clone()), json!({"metadata": {"name": MONITORING}})).await?;
    let (address, _) = tokio::try_join!(free_pod(platform, NOBODYS), free_pod(platform, MONITORING))?;
    judged(platform, &stage.a.node, Judged::Everybodys).await?;
    Ok((people, stage, address))
}

/// A pod of nobody's that serves; its address.
async fn free_pod(platform: &Client, namespace: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(platform.clone(), namespace);
    let container = json!({"name": "main", "image": objects::image(), "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c", kernel::SCRIPT]});
    let pod = json!({"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}});
    put(pods.clone(), pod).await?;
    wait::until(&format!("the pod in {namespace} to run"), STARTED, || async {
        let status = pods.get("web").await?.status.unwrap_or_default();
        ensure!(status.phase.as_deref() == Some("Running"), "{:?}", status.phase);
        status.pod_ip.context("it has no address")
    })
    .await
}

/// Waits until this is whose traffic the enforcer is told to judge on a node; the NodeNetwork that says so.
pub async fn judged(platform: &Client, node: &str, whose: Judged) -> anyhow::Result<NodeNetwork> {
    let networks: Api<NodeNetwork> = Api::all(platform.clone());
    wait::until(&format!("the traffic on {node} that is judged to be {whose:?}"), STARTED, || async {
        let network = networks.get_opt(node).await?.context("there is no NodeNetwork yet")?;
        let status = network.status.clone().unwrap_or_default();
        ensure!(status.enforcer == Some(whose), "{status:?}");
        Ok(network)
    })
    .await
}

pub async fn address_of(client: &Client, namespace: &str, service: &str) -> anyhow::Result<String> {
    let found = Api::<Service>::namespaced(client.clone(), namespace).get(service).await?;
    found.spec.and_then(|spec| spec.cluster_ip).with_context(|| format!("Service {namespace}/{service} has no address"))
}

/// Addresses of the pods of one of our programs.
pub async fn program(client: &Client, name: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "freehold-system");
    let running = ListParams::default().labels(&format!("app.kubernetes.io/name={name}")).fields("status.phase=Running");
    let found = pods.list(&running).await?.items.into_iter().find_map(|pod| pod.status?.pod_ip);
    found.with_context(|| format!("no pod of {name} runs"))
}

/// Waits until one pod of alice's reaches an address, or no longer does.
pub async fn becomes(platform: &Client, from: &str, address: &str, reached: bool) -> anyhow::Result<()> {
    wait::until(&format!("{from} to reach {address}: {reached}"), IN_FORCE, || async {
        ensure!(answers(platform, STAGE_A, from, address, 8080).await? == reached, "not so");
        Ok(())
    })
    .await
}

/// Waits until a pod of alice's is ready: the kubelet's probe, which comes from the node, got through.
pub async fn ready(platform: &Client, name: &str) -> anyhow::Result<String> {
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
pub fn probed(name: &str) -> Pod {
    let probe = json!({"httpGet": {"port": 8080}, "periodSeconds": 1});
    objects::pod(name, kernel::SCRIPT, &[("/containers/0/readinessProbe", probe)])
}
