//! Who reaches whom by network.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::AttachParams;

use super::api;
use super::kernel::Facts;
use crate::row::Webhook;
use crate::{People, Row, Verdict};

/// Where pods of the stage serve.
const PORT: u16 = 8080;

/// Asks from a pod's shell: whether anything comes back from an address when it is asked for a page.
///
/// # Errors
/// If the command can't be run in the pod.
pub async fn answers(client: &Client, namespace: &str, from: &str, address: &str, port: u16) -> anyhow::Result<bool> {
    let pods = api::<Pod>(client, namespace);
    // The outer limit is for one that takes the connection and says nothing.
    let request = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 6 nc -w 3 {address} {port} | head -c 1 | grep -q .");
    let mut attached = pods.exec(from, ["/bin/sh", "-c", &request], &AttachParams::default()).await?;
    let status = attached.take_status().ok_or_else(|| anyhow::anyhow!("exec gave no status"))?.await;
    Ok(status.is_some_and(|status| status.status.as_deref() == Some("Success")))
}

/// Whether the network enforcer runs on every node that it is meant for.
async fn enforced(platform: &Client) -> anyhow::Result<bool> {
    let found = api::<DaemonSet>(platform, "freehold-node").get_opt("freehold-network-enforcer").await?;
    let status = found.and_then(|found| found.status);
    Ok(status.is_some_and(|status| status.number_ready > 0 && status.number_ready == status.desired_number_scheduled))
}

/// From alice's pod to bob's; the control is alice's pod reaching its own neighbour.
///
/// # Errors
/// If a command can't be run in alice's pod.
pub async fn row(people: &People, namespace: &str, from: &Facts, neighbour: &Facts, foreign: &Facts) -> anyhow::Result<Row> {
    let enforced = enforced(&people.platform).await?;
    let own = answers(&people.alice, namespace, &from.pod, &neighbour.address, PORT).await?;
    let across = answers(&people.alice, namespace, &from.pod, &foreign.address, PORT).await?;
    let (verdict, answer, layer) = judge(own, across, enforced);
    Ok(Row {
        webhook: Webhook::Up,
        tried: "alice's pod asks bob's pod over the network".to_owned(),
        answer: answer.to_owned(),
        control: format!("its own neighbour {}", if own { "answers" } else { "does not answer" }),
        layer: layer.to_owned(),
        verdict,
    })
}

/// What two answers mean, and who gave them. A foreign pod that answers is a known gap only where nothing was to stop it.
fn judge(own: bool, across: bool, enforced: bool) -> (Verdict, &'static str, &'static str) {
    match (own, across, enforced) {
        (true, false, true) => (Verdict::Green, "no answer", "network enforcer"),
        (true, false, false) => (Verdict::Green, "no answer", "NetworkPolicy"),
        (false, false, _) => (Verdict::Red, "no answer", "unknown"),
        (_, true, true) => (Verdict::Red, "it answered, though the network enforcer runs", "nobody"),
        (false, true, false) => (Verdict::Red, "it answered", "nobody"),
        (true, true, false) => {
            (Verdict::NotEnforced, "NOT ENFORCED: it answered; nothing on this node enforces NetworkPolicy", "nobody")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_only_beside_an_answer_and_the_enforcer_must_not_leak() {
        for (own, across, enforced, verdict, layer) in [
            (true, false, true, Verdict::Green, "network enforcer"),
            (true, false, false, Verdict::Green, "NetworkPolicy"),
            (false, false, true, Verdict::Red, "unknown"),
            (true, true, true, Verdict::Red, "nobody"),
            (true, true, false, Verdict::NotEnforced, "nobody"),
            (false, true, false, Verdict::Red, "nobody"),
        ] {
            let judged = judge(own, across, enforced);
            assert_eq!((judged.0, judged.2), (verdict, layer), "{own} {across} {enforced}");
        }
    }
}
