//! The two ends of a probe: whether NetworkPolicies hold between two pods of one node.
//!
//! One pod greets whoever connects, the other one asks it at four ports: one that both pods' policies open, one that only the
//! first's closes, one that only the second's closes, and one that only the network enforcer closes. Silence counts only beside an answer. The operator starts both and acts
//! on how the asking one ends. They hold no rights; both are this program because its image is on the node already.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use freehold_crds::ProbeResult;
use freehold_crds::probing::{CLOSED_IN, CLOSED_OUT, OPEN, OURS};
use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is said to whoever connects: a port that merely accepts, as a proxy's may, is no answer.
const GREETING: &[u8] = b"freehold";
/// Time for one answer, on a node that is busy.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// Rounds that must agree before policies count as held: a CNI may close a pod and open it again while it learns of it.
const AGREE: usize = 3;
/// Rounds at most: 10 s where everything answers, which is how long a CNI may take to learn of a new pod, and 30 s where nothing does.
const ROUNDS: usize = 20;

/// What one round saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The open port answered, at every address.
    pub open: bool,
    /// The port closed on the way in answered, at some address.
    pub closed_in: bool,
    /// The port closed on the way out answered, at some address.
    pub closed_out: bool,
    /// The port that the network enforcer closes answered, at some address.
    pub ours: bool,
}

/// What rounds mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the policies held.
    pub result: ProbeResult,
    /// Whether the port that the network enforcer closes was closed, while the open one was not.
    pub enforcer_seen: bool,
}

impl Round {
    fn leaked(&self) -> bool {
        self.closed_in || self.closed_out
    }
}

/// What rounds mean, once they mean something or are all there will be.
pub fn finding(rounds: &[Round]) -> Option<Finding> {
    let last = &rounds[rounds.len().saturating_sub(AGREE)..];
    let all = |of: fn(&Round) -> bool| last.len() == AGREE && last.iter().all(of);
    let result = if all(|round| round.open && !round.leaked()) {
        ProbeResult::Held
    } else if rounds.len() < ROUNDS {
        return None;
    } else if last.iter().any(|round| round.leaked()) {
        ProbeResult::Ignored
    } else {
        ProbeResult::NoAnswer
    };
    Some(Finding { result, enforcer_seen: all(|round| round.open && !round.ours) })
}

/// The rounds in words.
pub fn evidence(rounds: &[Round]) -> String {
    let count = |of: fn(&Round) -> bool| rounds.iter().filter(|round| of(round)).count();
    format!(
        "of {} rounds the open port answered in {}, the one closed by the asked pod's policy in {}, the one closed by the asking pod's policy in {}, the one closed by the network enforcer in {}",
        rounds.len(),
        count(|round| round.open),
        count(|round| round.closed_in),
        count(|round| round.closed_out),
        count(|round| round.ours)
    )
}

/// Greets whoever connects, until the pod's time is over.
///
/// # Errors
/// If a port is taken, or no connection can be accepted any more.
pub async fn answer() -> anyhow::Result<()> {
    tokio::try_join!(greet(OPEN), greet(CLOSED_IN), greet(CLOSED_OUT), greet(OURS)).map(drop)
}

async fn greet(port: u16) -> anyhow::Result<()> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = match TcpListener::bind(any).await {
        Ok(listener) => listener,
        // A node without IPv6.
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await?,
    };
    loop {
        let (mut stream, _) = listener.accept().await?;
        // Whoever goes away before the greeting misses nothing but that.
        let _ = tokio::time::timeout(PATIENCE, stream.write_all(GREETING)).await;
    }
}

/// Asks a pod until its answers mean something: what they mean, and the evidence.
pub async fn ask(addresses: &[IpAddr]) -> (Finding, String) {
    let mut rounds = Vec::new();
    loop {
        let at = |port| join_all(addresses.iter().map(move |address| greets(SocketAddr::from((*address, port)))));
        let (open, closed_in, closed_out, ours) = tokio::join!(at(OPEN), at(CLOSED_IN), at(CLOSED_OUT), at(OURS));
        let open = !open.is_empty() && open.into_iter().all(|answered| answered);
        let some = |answers: Vec<bool>| answers.into_iter().any(|answered| answered);
        rounds.push(Round { open, closed_in: some(closed_in), closed_out: some(closed_out), ours: some(ours) });
        if let Some(found) = finding(&rounds) {
            return (found, evidence(&rounds));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn greets(address: SocketAddr) -> bool {
    let greeted = async {
        let mut said = [0; GREETING.len()];
        TcpStream::connect(address).await?.read_exact(&mut said).await?;
        std::io::Result::Ok(said == GREETING)
    };
    tokio::time::timeout(PATIENCE, greeted).await.is_ok_and(|greeted| greeted.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Round = Round { open: true, closed_in: false, closed_out: false, ours: true };
    const LEAKED: Round = Round { closed_in: true, ..HELD };
    const SILENT: Round = Round { open: false, closed_in: false, closed_out: false, ours: false };

    #[test]
    fn silence_counts_only_beside_answers_and_several_times() {
        let all = |round| vec![round; ROUNDS];
        let (held, ignored) = (Some((ProbeResult::Held, false)), Some((ProbeResult::Ignored, false)));
        for (what, rounds, expected) in [
            ("too early to say", vec![HELD; 2], None),
            ("held", vec![HELD; 3], held),
            ("held after the CNI learned of the pods", [vec![LEAKED; 5], vec![HELD; 3]].concat(), held),
            ("not in a row", vec![HELD, LEAKED, HELD, HELD], None),
            ("a closed port goes on answering", all(LEAKED), ignored),
            ("only the way out leaks", all(Round { closed_in: false, closed_out: true, ..LEAKED }), ignored),
            ("the enforcer closes its own", all(Round { ours: false, ..LEAKED }), Some((ProbeResult::Ignored, true))),
            ("nothing answers, which is not the enforcer", all(SILENT), Some((ProbeResult::NoAnswer, false))),
            ("nothing but a closed port answers", all(Round { open: false, ours: false, ..LEAKED }), ignored),
        ] {
            assert_eq!(finding(&rounds).map(|found| (found.result, found.enforcer_seen)), expected, "{what}");
        }
        assert!(
            evidence(&[HELD, LEAKED])
                .starts_with("of 2 rounds the open port answered in 2, the one closed by the asked pod's policy in 1")
        );
    }
}
