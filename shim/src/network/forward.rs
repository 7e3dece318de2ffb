//! Port-forward: the container runtime dials localhost in the pod's namespace on the node, where the pod's servers are not.
//!
//! One listener takes every TCP connection that is made inside that namespace, whatever its port: a program of the kernel's
//! socket lookup (BPF_PROG_TYPE_SK_LOOKUP, Linux 5.9) hands them to it, so that no packet filter is needed there. The
//! connection's own address says which port was meant; the agent connects to that one on the guest's loopback, and bytes go
//! both ways over the agent's streams. What the pod itself sends and receives never passes here.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

use freehold_guest_api::message::{Call, Dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bpf;
use crate::agent::Agent;

/// Connections at once; more wait to be accepted. Three streams of the agent's are left for each of many processes.
const MAX_CONNECTIONS: usize = 64;
/// Bytes read from a client at a time.
const CHUNK: usize = 32 * 1024;

/// A listener for all ports, for as long as it lives.
#[derive(Debug)]
pub struct Ports {
    listener: TcpListener,
    link: OwnedFd,
}

/// Listens in the network namespace of the calling thread.
///
/// # Errors
/// If the kernel has no such programs, or refuses them.
pub fn listen() -> io::Result<Ports> {
    // A node may be without IPv6; with it one socket takes both.
    let both = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    let listener = both.or_else(|_| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
    listener.set_nonblocking(true)?;
    let map = bpf::map_of(listener.as_raw_fd())?;
    let program = bpf::load(bpf::Kind::SocketLookup, &to_listener(map.as_raw_fd()))?;
    let link = bpf::attach_here(&program)?;
    Ok(Ports { listener, link })
}

/// Hands every connection to the socket of the map; one that it can't have goes its usual way.
fn to_listener(map: i32) -> [bpf::Instruction; 17] {
    let [a, b, c, d] = map.to_le_bytes();
    [
        [0xbf, 0x16, 0, 0, 0, 0, 0, 0],       // r6 = r1, the context
        [0x62, 0x0a, 0xfc, 0xff, 0, 0, 0, 0], // *(u32 *)(r10 - 4) = 0, the key
        [0x18, 0x11, 0, 0, a, b, c, d],       // r1 = map
        [0; 8],
        [0xbf, 0xa2, 0, 0, 0, 0, 0, 0],             // r2 = r10
        [0x07, 0x02, 0, 0, 0xfc, 0xff, 0xff, 0xff], // r2 += -4
        [0x85, 0, 0, 0, 1, 0, 0, 0],                // bpf_map_lookup_elem
        [0x15, 0, 7, 0, 0, 0, 0, 0],                // if r0 == 0 goto end
        [0xbf, 0x07, 0, 0, 0, 0, 0, 0],             // r7 = r0
        [0xbf, 0x61, 0, 0, 0, 0, 0, 0],             // r1 = r6
        [0xbf, 0x72, 0, 0, 0, 0, 0, 0],             // r2 = r7
        [0xb7, 0x03, 0, 0, 0, 0, 0, 0],             // r3 = 0
        [0x85, 0, 0, 0, 124, 0, 0, 0],              // bpf_sk_assign
        [0xbf, 0x71, 0, 0, 0, 0, 0, 0],             // r1 = r7
        [0x85, 0, 0, 0, 86, 0, 0, 0],               // bpf_sk_release
        [0xb7, 0, 0, 0, 1, 0, 0, 0],                // end: r0 = SK_PASS
        [0x95, 0, 0, 0, 0, 0, 0, 0],                // exit
    ]
}

impl Ports {
    /// Serves until the connection to the agent is lost.
    ///
    /// # Errors
    /// If the listener can't be used.
    pub async fn serve(self, agent: Agent) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let turns = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
        let accept = async {
            loop {
                let Ok(turn) = turns.clone().acquire_owned().await else { return Ok(()) };
                let (client, _) = listener.accept().await?;
                let agent = agent.clone();
                tokio::spawn(async move {
                    if let Err(error) = relay(client, &agent).await {
                        tracing::debug!(%error, "a forwarded connection ended");
                    }
                    drop(turn);
                });
            }
        };
        let served = tokio::select! {
            result = accept => result,
            _ = agent.lost() => Ok(()),
        };
        drop(self.link);
        served
    }
}

async fn relay(client: TcpStream, agent: &Agent) -> anyhow::Result<()> {
    let port = u32::from(client.local_addr()?.port());
    let (input, output) = (agent.new_stream(), agent.new_stream());
    let full = || anyhow::anyhow!("too many streams of this pod are open");
    let mut incoming = agent.streams().receive(output).ok_or_else(full)?;
    let outgoing = agent.streams().send(input);
    let dialled = match &outgoing {
        Some(_) => agent.command("Dial", Call::Dial(Dial { port, input, output })).await.map_err(anyhow::Error::from),
        None => Err(full()),
    };
    let (Some(mut outgoing), Ok(())) = (outgoing, &dialled) else {
        agent.streams().forget(output);
        agent.streams().forget(input);
        // A reset says "nobody listens" as well as can be said after the connection was taken.
        client.set_zero_linger()?;
        return dialled;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let up = tokio::spawn(async move {
        let mut buffer = vec![0u8; CHUNK];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            if !outgoing.send(&buffer[..n]).await {
                return; // the server reads no more
            }
        }
        outgoing.end().await;
    });
    let mut gone = false;
    while let Some(bytes) = incoming.next().await {
        gone = to_client.write_all(&bytes).await.is_err();
        if gone {
            break;
        }
        agent.streams().grant(output, bytes.len()).await;
    }
    if gone {
        // The agent then closes the connection, so the other direction ends too.
        incoming.reset().await;
        agent.streams().forget(output);
    }
    let _ = to_client.shutdown().await; // the client may be gone
    let _ = up.await; // it may still send
    agent.streams().forget(input);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// In a namespace of its own, whose loopback has to be brought up; needs root, as all that makes machines.
    #[test]
    fn every_port_of_localhost_is_the_listeners() {
        let work = || {
            if rustix::process::geteuid().as_raw() != 0 {
                return; // the gates run as root
            }
            // SAFETY: takes an integer; only this thread changes its namespace.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.unwrap().success());
            let ports = listen().unwrap();
            ports.listener.set_nonblocking(false).unwrap();
            for address in ["127.0.0.1:80", "127.0.0.1:65535", "127.0.0.2:443", "[::1]:8080"] {
                let address: SocketAddr = address.parse().unwrap();
                let mut client = std::net::TcpStream::connect(address).unwrap();
                let (mut server, _) = ports.listener.accept().unwrap();
                assert_eq!(server.local_addr().unwrap().port(), address.port());
                client.write_all(b"hello").unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
                let mut heard = String::new();
                server.read_to_string(&mut heard).unwrap();
                assert_eq!(heard, "hello");
            }
        };
        std::thread::spawn(work).join().unwrap();
    }
}
