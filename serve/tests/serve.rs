//! Real clients against real sockets on loopback: certificate swap, limits, health, stop.

use freehold_serve::{connections, health, stop, tls};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use warp::Filter;

const LIMIT: Duration = Duration::from_secs(20);

struct Pair {
    chain: String,
    key: String,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    Pair { chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap()
}

/// A client that trusts exactly the given certificate, and what it was shown.
async fn handshake(address: SocketAddr, trusted: &Pair) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(trusted)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from("localhost").unwrap(), TcpStream::connect(address).await?).await
}

async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), head: &str) -> String {
    stream.write_all(format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server may close without close_notify after its answer; what came counts.
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_replaced_certificate_is_seen_by_the_next_connection_and_the_old_connection_lives_on() {
    let (first, second) = (pair(), pair());
    let certificates = tls::Certificates::new(first.chain.as_bytes(), first.key.as_bytes()).unwrap();
    let (listener, address) = listener().await;
    let (stopper, stop) = stop::channel();
    let routes = connections::routes(warp::path!("hello").map(|| "hi there"));
    let server = tokio::spawn(tls::serve(listener, certificates.clone(), routes, stop));

    let mut old = handshake(address, &first).await.unwrap();
    assert!(handshake(address, &second).await.is_err(), "the second certificate is not served yet");
    certificates.replace(second.chain.as_bytes(), second.key.as_bytes()).unwrap();

    let mut new = handshake(address, &second).await.unwrap();
    assert_eq!(new.get_ref().1.peer_certificates().unwrap()[0], der(&second));
    assert!(handshake(address, &first).await.is_err(), "the first certificate is not served any more");
    assert!(exchange(&mut new, "GET /hello HTTP/1.1").await.ends_with("hi there"));
    assert!(exchange(&mut old, "GET /hello HTTP/1.1").await.ends_with("hi there"));

    stopper.stop();
    tokio::time::timeout(LIMIT, server).await.unwrap().unwrap().unwrap();
}

#[test]
fn a_key_of_another_certificate_is_refused_and_the_old_pair_stays() {
    let (first, second) = (pair(), pair());
    let certificates = tls::Certificates::new(first.chain.as_bytes(), first.key.as_bytes()).unwrap();
    let error = certificates.replace(second.chain.as_bytes(), first.key.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("replace both at once"), "{error}");
    assert!(tls::Certificates::new(b"", first.key.as_bytes()).unwrap_err().to_string().contains("CERTIFICATE"));
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let (listener, address) = listener().await;
    let (stopper, stop) = stop::channel();
    let readiness = health::Readiness::default();
    let mut registry = prometheus_client::registry::Registry::default();
    let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
    registry.register("calls", "Calls so far", counter.clone());
    counter.inc();
    let routes = connections::routes(health::routes(readiness.clone(), Arc::new(registry)));
    let server = tokio::spawn(connections::serve(listener, routes, stop));

    let ask = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        exchange(&mut stream, &format!("GET {path} HTTP/1.1")).await
    };
    assert!(ask("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(ask("/readyz").await.starts_with("HTTP/1.1 503"));
    readiness.set(true);
    assert!(ask("/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(ask("/metrics").await.contains("calls_total 1"));
    assert!(ask("/other").await.starts_with("HTTP/1.1 404"));

    stopper.stop();
    tokio::time::timeout(LIMIT, server).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "a stopped server does not accept");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let (listener, address) = listener().await;
    let (_stopper, stop) = stop::channel();
    let routes = connections::routes(warp::post().and(connections::body()).map(|body: Vec<u8>| body.len().to_string()));
    tokio::spawn(connections::serve(listener, routes, stop));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nContent-Length: {}", connections::MAX_BODY_BYTES + 1);
    assert!(exchange(&mut stream, &head).await.starts_with("HTTP/1.1 413"));
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(exchange(&mut stream, "POST / HTTP/1.1").await.starts_with("HTTP/1.1 411"));
}

#[tokio::test]
async fn a_stop_lets_a_running_request_finish() {
    let (listener, address) = listener().await;
    let (stopper, stop) = stop::channel();
    let (entered, gate) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (entered_route, gate_route) = (entered.clone(), gate.clone());
    let routes = connections::routes(warp::any().and_then(move || {
        let (entered, gate) = (entered_route.clone(), gate_route.clone());
        async move {
            entered.notify_one();
            gate.notified().await;
            Ok::<_, warp::Rejection>("finished")
        }
    }));
    let server = tokio::spawn(connections::serve(listener, routes, stop));
    let client = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        exchange(&mut stream, "GET / HTTP/1.1").await
    });
    tokio::time::timeout(LIMIT, entered.notified()).await.unwrap();
    stopper.stop();
    gate.notify_one();
    assert!(tokio::time::timeout(LIMIT, client).await.unwrap().unwrap().ends_with("finished"));
    tokio::time::timeout(LIMIT, server).await.unwrap().unwrap();
}
