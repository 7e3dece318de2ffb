//! Real sockets: what is asked comes back over the same transport, and one that floods leaves the others their answers.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{DOMAIN, objects, question};
use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Ttl};
use domain::rdata::A as Address;
use freehold_dns::forward::{self, Transport};
use freehold_dns::metrics::Metrics;
use freehold_dns::names::Name;
use freehold_dns::server::{MAX_STREAMS_EACH, Server};
use freehold_dns::view::View;
use freehold_serve::stop;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

const LIMIT: Duration = Duration::from_secs(30);

/// What the cluster's DNS would say.
fn answered(asked: &[u8]) -> Vec<u8> {
    let asked = Message::from_slice(asked).unwrap();
    let mut answer = MessageBuilder::new_vec().start_answer(asked, Rcode::NOERROR).unwrap();
    let name = asked.sole_question().unwrap().into_qname();
    answer.push((name, Ttl::from_secs(5), Address::from_octets(10, 96, 0, 9))).unwrap();
    answer.finish()
}

/// A stand-in for the cluster's DNS; the live test asks a real one.
async fn upstream() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&answered(&buffer[..length]), from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = forward::read(&mut stream).await.unwrap().unwrap();
            forward::write(&mut stream, &answered(&asked)).await.unwrap();
        }
    });
    address
}

/// A server for which this process is team-a's pod.
async fn server(known: bool) -> (SocketAddr, watch::Sender<Arc<View>>, stop::Stopper) {
    let (tell, view) = watch::channel(Arc::new(if known { here() } else { View::default() }));
    let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = datagrams.local_addr().unwrap();
    let streams = TcpListener::bind(address).await.unwrap();
    let (stopper, stop) = stop::channel();
    let server = Server::new(Name::from_text(DOMAIN), upstream().await, view, Metrics::new().0);
    tokio::spawn(server.serve(datagrams, streams, stop));
    (address, tell, stopper)
}

fn here() -> View {
    let mut objects = objects();
    let mut pod = (*objects.pods[0]).clone();
    let status = pod.status.as_mut().unwrap();
    (status.pod_ip, status.pod_ips) = (Some("127.0.0.1".to_owned()), None);
    objects.pods.push(Arc::new(pod));
    View::new(&objects)
}

async fn ask(server: SocketAddr, transport: Transport, name: &str) -> (Rcode, u16) {
    let asked = question(name, Rtype::A);
    let answer = tokio::time::timeout(LIMIT, forward::ask(server, transport, asked.as_slice())).await.unwrap().unwrap();
    let answer = Message::from_octets(answer).unwrap();
    assert!(answer.is_answer(&asked));
    (answer.header().rcode(), answer.header_counts().ancount())
}

#[tokio::test]
async fn answers_over_both_transports() {
    let (server, _tell, _stopper) = server(true).await;
    for transport in [Transport::Udp, Transport::Tcp] {
        assert_eq!(ask(server, transport, "web.team-a-dev.svc.cluster.local").await, (Rcode::NOERROR, 1), "{transport:?}");
        assert_eq!(ask(server, transport, "web.team-b-dev.svc.cluster.local").await, (Rcode::NXDOMAIN, 0), "{transport:?}");
    }
}

#[tokio::test]
async fn who_becomes_known_is_answered_then() {
    let (server, tell, _stopper) = server(false).await;
    let asked = tokio::spawn(async move { ask(server, Transport::Udp, "web.team-a-dev.svc.cluster.local").await });
    tell.send_replace(Arc::new(here()));
    assert_eq!(asked.await.unwrap(), (Rcode::NOERROR, 1));
    tell.send_replace(Arc::new(View::default()));
    assert_eq!(ask(server, Transport::Tcp, "web.team-a-dev.svc.cluster.local").await, (Rcode::REFUSED, 0), "a stranger");
}

#[tokio::test]
async fn one_address_holds_few_streams() {
    let (server, _tell, _stopper) = server(true).await;
    let mut held = Vec::new();
    for _ in 0..MAX_STREAMS_EACH {
        let mut stream = TcpStream::connect(server).await.unwrap();
        forward::write(&mut stream, question("web.team-a-dev.svc.cluster.local", Rtype::A).as_slice()).await.unwrap();
        assert!(forward::read(&mut stream).await.unwrap().is_some());
        held.push(stream);
    }
    let mut more = TcpStream::connect(server).await.unwrap();
    let ended = tokio::time::timeout(LIMIT, forward::read(&mut more)).await.unwrap();
    assert!(matches!(ended, Ok(None) | Err(_)), "one too many is hung up on");
    drop(held.pop());
    let again = async {
        loop {
            let mut stream = TcpStream::connect(server).await.unwrap();
            let _hung_up = forward::write(&mut stream, question("web.team-a-dev.svc.cluster.local", Rtype::A).as_slice()).await;
            if matches!(forward::read(&mut stream).await, Ok(Some(_))) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, again).await.expect("one that was given back is taken again");
}
