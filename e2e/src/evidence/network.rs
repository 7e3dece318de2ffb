//! Who reaches whom by network.

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::AttachParams;

use super::api;
use super::kernel::Facts;
use crate::row::Webhook;
use crate::{Row, Verdict};

/// Asks from a pod's shell for the page that another pod serves.
async fn reaches(client: &Client, namespace: &str, from: &str, address: &str) -> anyhow::Result<bool> {
    let pods = api::<Pod>(client, namespace);
    let request = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} 8080 | grep -q hello");
    let mut attached = pods.exec(from, ["/bin/sh", "-c", &request], &AttachParams::default()).await?;
    let status = attached.take_status().ok_or_else(|| anyhow::anyhow!("exec gave no status"))?.await;
    Ok(status.is_some_and(|status| status.status.as_deref() == Some("Success")))
}

/// From alice's pod to bob's; the control is alice's pod reaching its own neighbour.
///
/// # Errors
/// If a command can't be run in alice's pod.
pub async fn row(alice: &Client, namespace: &str, from: &Facts, neighbour: &Facts, foreign: &Facts) -> anyhow::Result<Row> {
    let own = reaches(alice, namespace, &from.pod, &neighbour.address).await?;
    let across = reaches(alice, namespace, &from.pod, &foreign.address).await?;
    let verdict = match (own, across) {
        (false, _) => Verdict::Red,
        (true, true) => Verdict::NotEnforced,
        (true, false) => Verdict::Green,
    };
    Ok(Row {
        webhook: Webhook::Up,
        tried: "alice's pod asks bob's pod over the network".to_owned(),
        answer: if across { "NOT ENFORCED: it answered; nothing on this node enforces NetworkPolicy" } else { "no answer" }
            .to_owned(),
        control: format!("its own neighbour {}", if own { "answers" } else { "does not answer" }),
        layer: if across { "nobody" } else { "NetworkPolicy" }.to_owned(),
        verdict,
    })
}
