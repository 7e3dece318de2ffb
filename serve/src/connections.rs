//! Accepts connections and serves warp routes on them, with every limit in one place.
//!
//! Input: a listener, routes and a [`Stop`]. The plain form is for health and metrics, the TLS form ([`crate::tls`]) for
//! admission. warp alone has neither TLS nor limits on connections, which is why hyper is driven here.

use crate::stop::Stop;
use hyper::body::{Bytes, Incoming};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use warp::filters::BoxedFilter;
use warp::{Filter, Rejection, Reply};

/// Connections at once; the API server keeps a handful to each webhook, so this only bounds a flood.
pub const MAX_CONNECTIONS: usize = 512;
/// Streams at once in one HTTP/2 connection; the API server multiplexes all its calls over one.
pub const MAX_STREAMS: u32 = 250;
/// Time for a TLS handshake.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Time for the headers of an HTTP/1 request, which also ends idle connections.
pub const HEADER_LIMIT: Duration = Duration::from_secs(30);
/// Time for one request; the API server gives a webhook at most 30 seconds.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Time that running requests have to finish after a stop; below the usual grace period of 30 seconds.
pub const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Size of a request's body in bytes: the API server takes objects up to 3 MiB, and a review may hold two of them.
pub const MAX_BODY_BYTES: u64 = 7 * 1024 * 1024;
/// Wait after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Routes that answer every request, rejections included.
pub type Routes = BoxedFilter<(warp::reply::Response,)>;

/// Makes any filter's answer uniform, so that servers can hold it.
pub fn routes<F, R>(filter: F) -> Routes
where
    F: Filter<Extract = (R,), Error = Rejection> + Clone + Send + Sync + 'static,
    R: Reply,
{
    filter.map(|reply: R| reply.into_response()).boxed()
}

/// A request's body of at most [`MAX_BODY_BYTES`]. A request without `Content-Length` is answered 411, a longer one 413.
pub fn body() -> impl Filter<Extract = (Vec<u8>,), Error = Rejection> + Copy + Send + Sync + 'static {
    warp::body::content_length_limit(MAX_BODY_BYTES).and(warp::body::bytes()).map(|bytes: Bytes| bytes.to_vec())
}

/// Serves routes without TLS until a stop is asked for and running requests ended, or [`STOP_LIMIT`] passed.
pub async fn serve(listener: TcpListener, routes: Routes, stop: Stop) {
    accept(listener, routes, stop, |stream| async { Some(stream) }).await;
}

/// The accept loop; `prepare` turns a TCP stream into the one that is served (`None` drops it).
pub(crate) async fn accept<P, F, S>(listener: TcpListener, routes: Routes, mut stop: Stop, prepare: P)
where
    P: Fn(TcpStream) -> F,
    F: Future<Output = Option<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = tokio::select! {
            () = stop.wait() => break,
            accepted = next(&listener, &places) => accepted,
        };
        let Some((stream, place)) = stream else { continue };
        let (prepared, routes, watcher) = (prepare(stream), routes.clone(), graceful.watcher());
        tokio::spawn(async move {
            if let Some(stream) = prepared.await {
                connection(stream, routes, watcher).await;
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(STOP_LIMIT, graceful.shutdown()).await.is_err() {
        tracing::warn!(limit = ?STOP_LIMIT, "requests were still running at the end of the stop limit; they are cut");
    }
}

/// A place first, then a connection: waiting clients stay in the kernel's queue.
async fn next(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Small answers must not wait for an acknowledgement (Nagle).
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Serves one connection to its end.
async fn connection<S>(stream: S, routes: Routes, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inner = TowerToHyperService::new(warp::service(routes));
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let answer = inner.call(request);
        async move {
            let answered = tokio::time::timeout(REQUEST_LIMIT, answer).await;
            Ok::<_, Infallible>(match answered {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => warp::http::StatusCode::GATEWAY_TIMEOUT.into_response(),
            })
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS).keep_alive_interval(HEADER_LIMIT);
    let served = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
