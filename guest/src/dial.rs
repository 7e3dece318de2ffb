//! Connections to the pod's servers that listen on the guest's loopback (port-forward).

use crate::fail::{Failure, Result, Step};
use crate::streams::Streams;
use freehold_guest_api::message::Dial;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Loopback answers at once, unless a server's queue is full; the agent does nothing else meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);

/// Connects and opens both streams.
pub fn dial(streams: &mut Streams, dial: &Dial) -> Result<()> {
    let port = u16::try_from(dial.port).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| Failure::refuse(format!("{} is no port", dial.port)))?;
    let numbers = [dial.input, dial.output];
    if dial.input == dial.output || numbers.iter().any(|number| *number == 0 || !streams.is_free(*number)) {
        return Err(Failure::refuse(format!("streams {numbers:?}: one is in use or too many are open")));
    }
    let connect = |ip: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(ip, port), PATIENCE);
    let connected = connect(Ipv4Addr::LOCALHOST.into());
    // The first refusal is told: ::1 may not even be there.
    let socket = connected.or_else(|refusal| connect(Ipv6Addr::LOCALHOST.into()).map_err(|_| refusal));
    let socket = socket.step(format!("connect to port {port} of the pod"))?;
    socket.set_nonblocking(true).step("make the connection non-blocking")?;
    let copy = socket.try_clone().step("copy the connection")?;
    streams.open_connection(dial.input, dial.output, [copy, socket].map(|side| File::from(OwnedFd::from(side))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn servers_on_either_loopback_are_found() {
        let mut streams = Streams::default();
        for (n, address) in ["127.0.0.1:0", "[::1]:0"].iter().enumerate() {
            let Ok(server) = TcpListener::bind(address) else { continue }; // a host without IPv6
            let port = u32::from(server.local_addr().unwrap().port());
            let (input, output) = (10 * n as u32 + 1, 10 * n as u32 + 2);
            dial(&mut streams, &Dial { port, input, output }).unwrap();
            assert!(streams.is_open(input) && streams.is_open(output), "{address}");
            assert!(dial(&mut streams, &Dial { port, input, output }).is_err(), "streams in use");
        }
    }

    #[test]
    fn nonsense_and_closed_ports_are_refused() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for (port, input, output) in [(0, 1, 2), (70_000, 1, 2), (80, 1, 1), (80, 0, 1), (u32::from(closed), 1, 2)] {
            assert!(dial(&mut Streams::default(), &Dial { port, input, output }).is_err(), "{port} {input} {output}");
        }
    }
}
