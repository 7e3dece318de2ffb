//! Who learns which names: pods in machines, and one of nobody's on runc, ask the cluster's DNS and the isolated tenants' name server.
//!
//! Each name that is absent for one pod is there, in the same moment, for another.
#![cfg(feature = "live")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use freehold_e2e::live::{BOUNDARY, TENANT, api, namespace, sees, tenant};
use freehold_e2e::{People, objects, wait};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::Client;
use kube::api::{Api, AttachParams, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

/// A machine starts under emulation on a busy node.
const STARTED: Duration = Duration::from_secs(120);
/// A Boundary, the table and what name servers know follow from what is written.
const IN_FORCE: Duration = Duration::from_secs(30);
/// The cluster's own DNS.
const CLUSTER_DNS: &str = "10.96.0.10";
/// Isolated, and not let out of the cluster.
const A: &str = "names-a";
/// Of another tenant, which asks the cluster's DNS.
const B: &str = "names-b";
/// Nobody's.
const NOBODYS: &str = "names-nobodys";

/// A pod that says what it is asked to, with a Service in front, on runc where its namespace is nobody's.
async fn asker(client: &Client, namespace: &str) -> anyhow::Result<(String, String)> {
    let mut pod = objects::pod("asker", "trap exit TERM; while :; do sleep 1; done", &[]);
    pod.metadata.labels = Some([("app".to_owned(), "asker".to_owned())].into());
    if namespace == NOBODYS {
        pod.spec.as_mut().context("no spec")?.runtime_class_name = None;
    }
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "asker"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
    let services = Api::<Service>::namespaced(client.clone(), namespace);
    let address =
        services.create(&PostParams::default(), &serde_json::from_value(service)?).await?.spec.and_then(|spec| spec.cluster_ip);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.create(&PostParams::default(), &pod).await?;
    let own = wait::until(&format!("the pod in {namespace} to run"), STARTED, || async {
        let status = pods.get("asker").await?.status.unwrap_or_default();
        ensure!(status.phase.as_deref() == Some("Running"), "{:?} {:?}", status.phase, status.container_statuses);
        status.pod_ip.context("it has no address")
    })
    .await?;
    Ok((own, address.context("the Service has no address")?))
}

/// Whether a pod is told what it asks for, and what it was told.
async fn told(platform: &Client, namespace: &str, question: &str) -> anyhow::Result<(bool, String)> {
    let pods: Api<Pod> = Api::namespaced(platform.clone(), namespace);
    run(&pods, &format!("timeout 8 nslookup {question} 2>&1")).await
}

/// Whether a command in a pod's shell succeeds, and what it prints.
async fn run(pods: &Api<Pod>, command: &str) -> anyhow::Result<(bool, String)> {
    let mut attached = pods.exec("asker", ["/bin/sh", "-c", command], &AttachParams::default().stderr(false)).await?;
    let mut said = String::new();
    if let Some(mut stdout) = attached.stdout() {
        stdout.read_to_string(&mut said).await?;
    }
    let status = attached.take_status().context("exec gave no status")?.await;
    Ok((status.is_some_and(|status| status.status.as_deref() == Some("Success")), said))
}

fn reverse(address: &str) -> String {
    let octets: Vec<_> = address.rsplit('.').collect();
    format!("-type=ptr {}.in-addr.arpa", octets.join("."))
}

/// What a pod asks for, whether it is told, and who is told in the same moment.
type Question = (String, bool, &'static str);

async fn as_promised(platform: &Client, from: &str, questions: &[Question]) -> anyhow::Result<()> {
    wait::until(&format!("{from} to be told what it may know"), IN_FORCE, || async {
        let asked = questions.iter().map(|(question, expected, control)| async move {
            let (own, other) = tokio::try_join!(told(platform, from, question), told(platform, control, question))?;
            let right = own.0 == *expected && other.0;
            anyhow::Ok((!right).then(|| format!("{question}: {from} is told {own:?}, {control} {other:?}")))
        });
        let wrong: Vec<_> = try_join_all(asked).await?.into_iter().flatten().collect();
        ensure!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_tenant_learns_its_own_names_and_no_others() -> anyhow::Result<()> {
    let platform = People::from_environment().await?.platform;
    let spec = |network: Value| json!({"owners": [{"kind": "User", "name": "carol"}], "deletionPolicy": "Delete", "namespaces": {"namePolicy": "Any"}, "network": network});
    tenant(&platform, A, spec(json!({"dns": "Isolated"}))).await?;
    tenant(&platform, B, spec(json!({}))).await?;
    namespace(&platform, A, A).await?;
    namespace(&platform, B, B).await?;
    let namespaces: Api<Namespace> = Api::all(platform.clone());
    namespaces.create(&PostParams::default(), &objects::namespace(NOBODYS, None)).await?;
    for one in [A, B] {
        sees(&api(&platform, BOUNDARY, Some(one)), "boundary", "/spec/state", json!("Active")).await?;
    }
    let ((own, _), (foreign, foreign_service), _) =
        tokio::try_join!(asker(&platform, A), asker(&platform, B), asker(&platform, NOBODYS))?;

    let at = |namespace: &str, question: &str| format!("{question}.{namespace}.svc.cluster.local");
    let mut questions: Vec<Question> = vec![
        (at(A, "web"), true, NOBODYS),
        (format!("-type=srv {}", at(A, "_http._tcp.web")), true, NOBODYS),
        (at(B, "web"), false, B),
        (at(B, "web"), false, NOBODYS),
        (format!("-type=srv {}", at(B, "_http._tcp.web")), false, B),
        (at(NOBODYS, "web"), false, NOBODYS),
        ("kubernetes.default.svc.cluster.local".to_owned(), false, B),
        (reverse(&foreign_service), false, B),
        ("www.example.org".to_owned(), false, B),
        (format!("{} {CLUSTER_DNS}", at(A, "web")), false, B),
    ];
    as_promised(&platform, A, &questions).await?;
    // Short names are looked for in the search domains that came with the name server.
    let (_, resolver) = run(&Api::namespaced(platform.clone(), A), "cat /etc/resolv.conf").await?;
    for line in ["nameserver 10.96.0.53", "search names-a.svc.cluster.local svc.cluster.local cluster.local", "options ndots:5"] {
        ensure!(resolver.lines().any(|one| one == line), "{line}: {resolver}");
    }
    // The pod's own address is no secret to it.
    let (_, said) = told(&platform, A, &reverse(&own)).await?;
    ensure!(!said.contains("REFUSED"), "{said}");
    let (_, said) = told(&platform, A, &reverse(&foreign)).await?;
    ensure!(said.contains("NXDOMAIN"), "{said}");

    // Let out into the world, it learns the world's names too; and its peer's once both agree.
    let patch = |name: &'static str, network: Value| {
        let tenants = api(&platform, TENANT, None);
        async move { tenants.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": {"network": network}}))).await }
    };
    patch(A, json!({"egressTo": [{"cidr": "192.0.2.0/24"}], "peers": [{"tenantName": B}], "apiServer": "Allow"})).await?;
    for index in [2, 6, 8] {
        questions[index].1 = index != 2;
    }
    as_promised(&platform, A, &questions).await?;
    patch(B, json!({"peers": [{"tenantName": A}]})).await?;
    for index in [2, 3, 4, 7] {
        questions[index].1 = true;
    }
    as_promised(&platform, A, &questions).await?;

    for one in [A, B] {
        api(&platform, TENANT, None).delete(one, &DeleteParams::default()).await?;
    }
    namespaces.delete(NOBODYS, &DeleteParams::default()).await?;
    Ok(())
}
