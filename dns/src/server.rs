//! Hears questions, has them decided, answers.
//!
//! Everything is bounded: what one tenant and all together have in hand, streams of one address and of all, how long each may take.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use domain::base::Message;
use domain::base::iana::Rcode;
use freehold_serve::stop::Stop;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use crate::decide::{self, Verdict};
use crate::forward::{self, MAX_DATAGRAM, Transport};
use crate::metrics::Metrics;
use crate::names::Name;
use crate::places::Places;
use crate::view::{Rights, View};

/// Questions of one tenant in hand at once; each is for at most a few seconds.
pub const MAX_QUESTIONS_EACH: usize = 128;
/// Questions in hand at once; each costs a socket and two messages, so 32 MiB if all are of the largest size.
pub const MAX_QUESTIONS: usize = 2048;
/// Streams of one address at once; RFC 7766, section 6.2.2, asks clients for one.
pub const MAX_STREAMS_EACH: usize = 4;
/// Streams at once.
pub const MAX_STREAMS: usize = 512;
/// How long a stream may be silent, or slow with one message.
pub const STREAM_LIMIT: Duration = Duration::from_secs(10);
/// How long a question from an address that is not known yet waits: a pod may ask before the kubelet has reported its address.
pub const STRANGER_WAIT: Duration = Duration::from_secs(3);

/// What answers.
#[derive(Clone)]
pub struct Server {
    /// The cluster's domain.
    pub domain: Arc<Name>,
    /// The cluster's DNS.
    pub upstream: SocketAddr,
    /// What is known now.
    pub view: watch::Receiver<Arc<View>>,
    /// Counters.
    pub metrics: Metrics,
    questions: Places,
    streams: Places,
}

impl Server {
    /// A server that has nothing in hand.
    pub fn new(domain: Name, upstream: SocketAddr, view: watch::Receiver<Arc<View>>, metrics: Metrics) -> Self {
        Self {
            domain: Arc::new(domain),
            upstream,
            view,
            metrics,
            questions: Places::new(MAX_QUESTIONS_EACH, MAX_QUESTIONS),
            streams: Places::new(MAX_STREAMS_EACH, MAX_STREAMS),
        }
    }

    /// Serves both sockets until it is stopped.
    ///
    /// # Errors
    /// If a socket fails for good.
    pub async fn serve(self, datagrams: UdpSocket, streams: TcpListener, mut stop: Stop) -> std::io::Result<()> {
        tokio::select! {
            failed = self.datagrams(Arc::new(datagrams)) => failed,
            failed = self.listen(streams) => failed,
            () = stop.wait() => Ok(()),
        }
    }

    async fn datagrams(&self, socket: Arc<UdpSocket>) -> std::io::Result<()> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            // An earlier answer that could not be delivered is told by the next call, and is nobody's failure here.
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
                received => received?,
            };
            let (this, socket, asked) = (self.clone(), socket.clone(), buffer[..length].to_vec());
            // Taken before there is a task, or a flood would be a flood of tasks.
            let Some(place) = self.place(from.ip()) else {
                self.metrics.count("busy");
                continue;
            };
            tokio::spawn(async move {
                if let Some(answer) = this.answer(from.ip(), Transport::Udp, &asked).await {
                    let _gone = socket.send_to(&answer, from).await;
                }
                drop(place);
            });
        }
    }

    async fn listen(&self, listener: TcpListener) -> std::io::Result<()> {
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                // Such as too many files, or who hung up before; the next may do better.
                Err(error) => {
                    tracing::warn!(%error, "a stream was not taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(place) = self.streams.take(&from.ip().to_canonical().to_string()) else {
                self.metrics.count("busy");
                continue;
            };
            let this = self.clone();
            tokio::spawn(async move {
                this.stream(stream, from.ip()).await;
                drop(place);
            });
        }
    }

    /// One question after the other, until the other side is done, slow or wrong.
    async fn stream(&self, mut stream: TcpStream, from: IpAddr) {
        while let Ok(Ok(Some(asked))) = tokio::time::timeout(STREAM_LIMIT, forward::read(&mut stream)).await {
            let Some(place) = self.place(from) else {
                self.metrics.count("busy");
                return;
            };
            let Some(answer) = self.answer(from, Transport::Tcp, &asked).await else { return };
            drop(place);
            if !matches!(tokio::time::timeout(STREAM_LIMIT, forward::write(&mut stream, &answer)).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// A place among the questions in hand. Who is not known yet shares those of nobody.
    fn place(&self, from: IpAddr) -> Option<crate::places::Place> {
        let rights = self.view.borrow().rights_of(from).cloned();
        self.questions.take(rights.as_ref().map_or("", |rights| &rights.tenant))
    }

    /// The answer to a message; none where none is owed.
    async fn answer(&self, from: IpAddr, transport: Transport, asked: &[u8]) -> Option<Vec<u8>> {
        let message = Message::from_slice(asked).ok()?;
        if message.header().qr() {
            return None;
        }
        let Some((view, rights)) = self.known(from).await else {
            self.metrics.count("stranger");
            return Some(decide::empty(message, Rcode::REFUSED));
        };
        match decide::question(&view, &self.domain, &rights, message) {
            Verdict::Ignore => None,
            Verdict::Answer(code) => {
                self.metrics.count(if code == Rcode::NXDOMAIN { "absent" } else { "refused" });
                Some(decide::empty(message, code))
            }
            Verdict::Forward => Some(self.ask_further(&rights, transport, message).await),
        }
    }

    async fn ask_further(&self, rights: &Rights, transport: Transport, asked: &Message<[u8]>) -> Vec<u8> {
        let answered = match forward::ask(self.upstream, transport, asked.as_slice()).await {
            Ok(answered) => answered,
            Err(error) => {
                tracing::warn!(%error, upstream = %self.upstream, "the cluster's DNS did not answer");
                self.metrics.count("failed");
                return decide::empty(asked, Rcode::SERVFAIL);
            }
        };
        let judged = Message::from_slice(&answered).map_err(|_| Rcode::SERVFAIL);
        match judged.and_then(|answer| decide::answer(&self.domain, rights, asked, answer)) {
            Ok(()) => {
                self.metrics.count("forwarded");
                answered
            }
            Err(code) => {
                self.metrics.count(if code == Rcode::NXDOMAIN { "absent" } else { "failed" });
                decide::empty(asked, code)
            }
        }
    }

    /// What is known of the asker; who is not known yet may become so within [`STRANGER_WAIT`].
    async fn known(&self, from: IpAddr) -> Option<(Arc<View>, Arc<Rights>)> {
        let mut view = self.view.clone();
        let known = |view: &Arc<View>| view.rights_of(from).map(|rights| (view.clone(), rights.clone()));
        let found = view.wait_for(|view| view.namespace_of(from).is_some());
        let view = match tokio::time::timeout(STRANGER_WAIT, found).await {
            Ok(Ok(view)) => view.clone(),
            _ => return None,
        };
        known(&view)
    }
}
