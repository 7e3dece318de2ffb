//! Who reaches whom on a real cluster with the network enforcer: real packets from pods in machines.
//!
//! Each refusal has a control: the same address answers, in the same moment, somebody whom nothing keeps away from it.
//! `FREEHOLD_NODE` is a command that runs another one on the node, split at spaces.
#![cfg(feature = "live")]

mod auto;
mod cluster_policies;
mod connection;
mod peers;
mod policies;
mod restart;
mod scene;

use anyhow::{Context as _, ensure};
use freehold_e2e::evidence::network::answers;
use freehold_e2e::evidence::{STAGE_A, STAGE_B};
use freehold_e2e::wait;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;

use scene::{IN_FORCE, METADATA, MONITORING, NOBODYS, NODE_PORT, Server, address_of, program, said, set};

/// Who is asked as the control.
#[derive(Clone, Copy, PartialEq)]
enum Control {
    /// The row is a control itself.
    Itself,
    /// A pod of nobody's reaches it.
    Nobodys,
    /// Bob's own pod reaches it.
    Bobs,
    /// A pod of the namespace that may scrape metrics reaches it, and one of nobody's does not.
    Scraper,
    /// Nobody's pod reaches it either: it is on the node's loopback, where the node reaches it.
    Loopback,
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
        ("the webhook's metrics", program(platform, "freehold-webhook").await?, 8081, Control::Scraper),
        ("the operator's metrics", program(platform, "freehold-operator").await?, 8081, Control::Scraper),
        ("the network enforcer's metrics", node_address.clone(), 9466, Control::Loopback),
    ];
    wait::until("everything to be as promised", IN_FORCE, || async {
        let asked = rows.iter().map(|(what, address, port, control)| {
            let people = &people;
            let stage = &stage;
            async move {
                let reached = answers(platform, STAGE_A, &stage.a.pod, address, *port).await?;
                let control_reached = match control {
                    Control::Itself => true,
                    Control::Scraper => {
                        let others = answers(platform, NOBODYS, "web", address, *port).await?;
                        !others && answers(platform, MONITORING, "web", address, *port).await?
                    }
                    Control::Loopback => {
                        let ask = format!("printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 3 127.0.0.1 {port}");
                        let served = said(&["sh", "-c", &ask])?.contains("freehold_network_enforcer_judged 2");
                        served && !answers(platform, NOBODYS, "web", address, *port).await?
                    }
                    Control::Nobodys => answers(platform, NOBODYS, "web", address, *port).await?,
                    Control::Bobs => answers(&people.bob, STAGE_B, &stage.b.pod, address, *port).await?,
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
