//! Measures what the table costs, for `scripts/bench-network`, which starts it in network namespaces of its own. Each subcommand prints one line of
//! figures. It is an example and not a test because its answers are times.

#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use freehold_network_enforcer::core::compile::compile;
use freehold_network_enforcer::core::selector::Selector;
use freehold_network_enforcer::core::view::*;
use freehold_network_enforcer::core::{delta, render};

/// Pods on one node at most, the kubelet's default; the others are elsewhere, and only members of sets.
const LOCAL: usize = 110;
/// Pods of one tenant.
const TENANTS_PODS: usize = 10;
/// Changes that are measured.
const CHANGES: usize = 60;

#[derive(Parser)]
enum What {
    /// Prints a table for so many pods, with so many policies on them; the first two, of one tenant, are open to each other.
    Table { pods: usize, policies: usize },
    /// From a policy that comes or goes to the kernel's answer that it is in force: deciding, nft, and both, in milliseconds.
    Change { pods: usize },
    /// Answers datagrams, one each.
    Echo { address: String },
    /// Round trips to an echo for so many seconds: median and p99, and the processor time that the asking thread spent on each, on its packet's way
    /// through the kernel above all; in microseconds.
    RoundTrips { address: String, seconds: u64 },
    /// Counts datagrams that come within so many seconds from the first one; prints them a second.
    Count { address: String, seconds: u64 },
    /// Sends small datagrams for so many seconds.
    Flood { address: String, seconds: u64 },
}

fn main() -> anyhow::Result<()> {
    match What::parse() {
        What::Table { pods, policies } => print!("{}", render::replace(&compile(&world(pods, policies)))),
        What::Change { pods } => change(pods)?,
        What::Echo { address } => echo(&UdpSocket::bind(address)?)?,
        What::RoundTrips { address, seconds } => round_trips(&address, Duration::from_secs(seconds))?,
        What::Count { address, seconds } => count(&UdpSocket::bind(address)?, Duration::from_secs(seconds))?,
        What::Flood { address, seconds } => flood(&address, Duration::from_secs(seconds))?,
    }
    Ok(())
}

fn address(index: usize) -> IpAddr {
    let number = u32::from(Ipv4Addr::new(10, 244, 0, 2)) + u32::try_from(index).expect("pods fit a /16");
    IpAddr::V4(number.into())
}

/// Tenants of ten pods each, and policies spread over pods, as NetworkPolicies that let in the tenant's own.
fn world(pods: usize, policies: usize) -> View {
    let mut view =
        View { ranges: vec!["10.244.0.0/24".parse().expect("a block")], links: ["cni0".to_owned()].into(), ..View::default() };
    let siblings = |tenant: usize| {
        let namespaces = Namespaces::Selected(Selector::label("freehold.dev/tenant", &format!("t{tenant}")));
        Rule { peers: Some(vec![Peer::Pods { namespaces, pods: Selector::default() }]), ports: None }
    };
    for index in 0..pods {
        let tenant = index / TENANTS_PODS;
        let namespace = format!("t{tenant}-dev");
        let labels = [("freehold.dev/tenant".to_owned(), format!("t{tenant}"))].into();
        let fence = Fence { ingress: vec![siblings(tenant)], egress: vec![siblings(tenant)] };
        view.namespaces.entry(namespace.clone()).or_insert(Namespace { labels, tenancy: Tenancy::Fenced(fence) });
        let labels = [("name".to_owned(), format!("p{index}"))].into();
        let pod = Pod { labels, addresses: [address(index)].into(), local: index < LOCAL, ..Pod::default() };
        view.pods.insert(Key { namespace, name: format!("p{index}") }, pod);
    }
    for index in 0..policies {
        let pod = index % pods;
        let tenant = pod / TENANTS_PODS;
        let key = Key { namespace: format!("t{tenant}-dev"), name: format!("policy-{index}") };
        view.policies.insert(
            key,
            Policy { pods: Selector::label("name", &format!("p{pod}")), ingress: Some(vec![siblings(tenant)]), egress: None },
        );
    }
    view
}

fn nft(transaction: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().expect("piped").write_all(transaction.as_bytes())?;
    anyhow::ensure!(child.wait()?.success(), "nft refused");
    Ok(())
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let index = (last as f64 * share).round() as usize;
    sorted[index.min(last)]
}

fn change(pods: usize) -> anyhow::Result<()> {
    let mut view = world(pods, pods);
    let began = Instant::now();
    let mut held = compile(&view);
    nft(&render::replace(&held))?;
    let whole = began.elapsed();
    let closing = Policy { pods: Selector::label("name", "p0"), ingress: Some(Vec::new()), egress: Some(Vec::new()) };
    let (mut decided, mut applied, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..CHANGES {
        let key = Key { namespace: "t0-dev".to_owned(), name: "closing".to_owned() };
        if turn % 2 == 0 {
            view.policies.insert(key, closing.clone());
        } else {
            view.policies.remove(&key);
        }
        let began = Instant::now();
        let wanted = compile(&view);
        let transaction = delta::transaction(&held, &wanted).expect("a change");
        let deciding = began.elapsed();
        nft(&transaction)?;
        let all = began.elapsed();
        held = wanted;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        decided.push(milliseconds(deciding));
        applied.push(milliseconds(all - deciding));
        both.push(milliseconds(all));
    }
    let figures = [decided, applied, both].map(|mut list| {
        list.sort_by(f64::total_cmp);
        format!("{:.1} {:.1}", quantile(&list, 0.5), quantile(&list, 0.99))
    });
    println!("{pods} {} {:.0}", figures.join(" "), whole.as_secs_f64() * 1000.0);
    Ok(())
}

fn echo(socket: &UdpSocket) -> anyhow::Result<()> {
    let mut buffer = [0; 64];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..length], from)?;
    }
}

fn round_trips(address: &str, time: Duration) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (mut list, mut buffer) = (Vec::new(), [0; 64]);
    let (before, end) = (processor_time()?, Instant::now() + time);
    while Instant::now() < end {
        let began = Instant::now();
        socket.send(&[0; 64])?;
        // One that is lost, or refused before the echo listens, is no round trip.
        if socket.recv(&mut buffer).is_ok() {
            list.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    anyhow::ensure!(!list.is_empty(), "no datagram came back");
    #[allow(clippy::cast_precision_loss)]
    let spent = (processor_time()? - before).as_secs_f64() * 1e6 / list.len() as f64;
    list.sort_by(f64::total_cmp);
    println!("{:.1} {:.1} {spent:.2}", quantile(&list, 0.5), quantile(&list, 0.99));
    Ok(())
}

/// What this thread has run so far. Unlike an hour by the clock it holds nothing of what else the machine does, but for a cold cache.
fn processor_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(text.split(' ').next().unwrap_or_default().parse()?))
}

fn count(socket: &UdpSocket, time: Duration) -> anyhow::Result<()> {
    let mut buffer = [0; 64];
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.recv(&mut buffer)?;
    let began = Instant::now();
    let mut seen = 0_u32;
    while began.elapsed() < time {
        socket.recv(&mut buffer)?;
        seen += 1;
    }
    println!("{:.0}", f64::from(seen) / began.elapsed().as_secs_f64());
    Ok(())
}

fn flood(address: &str, time: Duration) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        for _ in 0..64 {
            // Refused while nobody listens yet or any more.
            let _ = socket.send(&[0; 64]);
        }
    }
    Ok(())
}
