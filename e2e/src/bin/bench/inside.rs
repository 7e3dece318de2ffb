//! What programs in pods meet: another pod of the same kind over the network, and files of their container.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;

use super::Kind;
use super::measure::Measured;
use super::pods::{SMALL, create, remove, run};

/// MiB of the file that goes over the network, is written and read.
const FILE_MIB: f64 = 64.0;
/// Times that each is done.
const TIMES: f64 = 8.0;
/// Blocks written one after the other, each on the disk before the next.
const BLOCKS: f64 = 500.0;

/// Figures of one kind.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Inside {
    pub round_trip_ms: f64,
    pub network_mib_s: f64,
    pub write_mib_s: f64,
    pub read_mib_s: f64,
    pub block_ms: f64,
}

/// Measures two pods of a kind.
pub async fn measure(pods: &Api<Pod>, kind: &Kind, all: &mut Measured) -> anyhow::Result<()> {
    let [server, client] = ["server", "client"].map(|role| format!("{}-{role}", kind.name));
    create(pods, kind, &server, SMALL).await?;
    create(pods, kind, &client, SMALL).await?;
    all.inside = ask(pods, &server, &client).await.with_context(|| format!("pods on {}", kind.name))?;
    remove(pods, &server).await?;
    remove(pods, &client).await
}

async fn ask(pods: &Api<Pod>, server: &str, client: &str) -> anyhow::Result<Inside> {
    let found = pods.get(server).await?;
    let address = found.status.and_then(|status| status.pod_ip).context("the server has no address")?;
    run(
        pods,
        server,
        &format!("mkdir /www && dd if=/dev/zero of=/www/f bs=1M count={FILE_MIB} 2>/dev/null && httpd -p 7000 -h /www"),
    )
    .await?;
    let pinged = run(pods, client, &format!("ping -q -A -c 200 {address}")).await?;
    let over_network = timed(pods, client, &format!("wget -q -O /dev/null http://{address}:7000/f")).await?;
    let written = timed(pods, client, &format!("dd if=/dev/zero of=/f bs=1M count={FILE_MIB} oflag=direct")).await?;
    let read = timed(pods, client, "dd if=/f of=/dev/null bs=1M iflag=direct").await?;
    let blocks = timed(pods, client, &format!("dd if=/dev/zero of=/g bs=4k count={BLOCKS} oflag=direct")).await?;
    Ok(Inside {
        round_trip_ms: average(&pinged)?,
        network_mib_s: FILE_MIB / over_network,
        write_mib_s: FILE_MIB / written,
        read_mib_s: FILE_MIB / read,
        block_ms: blocks * 1000.0 / BLOCKS,
    })
}

/// Seconds that a command takes, as the average of some runs in a row: busybox tells hundredths of a second.
async fn timed(pods: &Api<Pod>, name: &str, command: &str) -> anyhow::Result<f64> {
    let script = format!("time -f '%e seconds' sh -c 'for n in $(seq {TIMES}); do {command} 2>/dev/null || exit 1; done' 2>&1");
    Ok(seconds(&run(pods, name, &script).await?)? / TIMES)
}

/// The number before the word `seconds`.
fn seconds(said: &str) -> anyhow::Result<f64> {
    let number = said.split_once(" seconds").with_context(|| format!("no seconds in «{said}»"))?.0;
    number.trim().parse().with_context(|| format!("no number of seconds in «{said}»"))
}

/// The second of `round-trip min/avg/max = a/b/c ms`.
fn average(said: &str) -> anyhow::Result<f64> {
    let figures = said.rsplit_once("= ").with_context(|| format!("no round trip in «{said}»"))?.1;
    figures.split('/').nth(1).and_then(|number| number.parse().ok()).with_context(|| format!("no average in «{said}»"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_busybox_prints_is_understood() {
        assert!((seconds("1.25 seconds\n").unwrap() - 1.25).abs() < 1e-9);
        let ping = "PING 10.0.0.1: 56 data bytes\n\n--- 10.0.0.1 ping statistics ---\n200 packets\nround-trip min/avg/max = 0.059/0.071/0.200 ms\n";
        assert!((average(ping).unwrap() - 0.071).abs() < 1e-9);
        assert!(seconds("Command exited with non-zero status 1\n0.01 seconds\n").is_err() && average("bad address").is_err());
    }
}
