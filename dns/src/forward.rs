//! Asks the cluster's DNS: over the transport the question came by, so that what is cut short for one is whole for the other.
//!
//! Each question has a socket and a number of its own, both chosen by the kernel at random, so that who does not see it
//! can't answer it (RFC 5452, sections 4 and 9).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// How long the cluster's DNS has for one answer: it may have to ask further itself, and resolvers give up after 5 s.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// What one datagram may hold: more than EDNS asks for by custom, all that a pod's network carries in a few fragments.
pub const MAX_DATAGRAM: usize = 8192;
/// The shortest message: its header (RFC 1035, section 4.1.1).
const HEADER: usize = 12;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream, behind its length.
    Tcp,
}

/// The answer to a message, under the message's own number.
///
/// # Errors
/// If there is none within [`ANSWER_LIMIT`], or it is none.
pub async fn ask(upstream: SocketAddr, transport: Transport, message: &[u8]) -> io::Result<Vec<u8>> {
    let exchange = async {
        if message.len() < HEADER {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "shorter than a header"));
        }
        let mut asked = message.to_vec();
        rustix::rand::getrandom(&mut asked[..2], rustix::rand::GetRandomFlags::empty())?;
        let mut answer = match transport {
            Transport::Udp => by_datagram(upstream, &asked).await?,
            Transport::Tcp => by_stream(upstream, &asked).await?,
        };
        answer[..2].copy_from_slice(&message[..2]);
        Ok(answer)
    };
    tokio::time::timeout(ANSWER_LIMIT, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn by_datagram(upstream: SocketAddr, asked: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if upstream.is_ipv4() { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: what comes from elsewhere is not heard.
    socket.connect(upstream).await?;
    socket.send(asked).await?;
    let mut answer = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length >= HEADER && answer[..2] == asked[..2] {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn by_stream(upstream: SocketAddr, asked: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    write(&mut stream, asked).await?;
    let answer = read(&mut stream).await?.unwrap_or_default();
    if answer.len() < HEADER || answer[..2] != asked[..2] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no answer to what was asked"));
    }
    Ok(answer)
}

/// One message of a stream: its length in two octets, and it (RFC 1035, section 4.2.2). None at the end.
///
/// # Errors
/// As the stream.
pub async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Writes one message into a stream, in one piece.
///
/// # Errors
/// As the stream, or if it is longer than a length can say.
pub async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "longer than 65535"))?;
    let mut whole = Vec::with_capacity(message.len() + 2);
    whole.extend_from_slice(&length.to_be_bytes());
    whole.extend_from_slice(message);
    stream.write_all(&whole).await
}
