//! Routes of health and metrics: `/healthz`, `/readyz`, `/metrics`.
//!
//! Input: a [`Readiness`] the program sets once its caches are filled, and its registry of metrics. The kubelet acts on
//! the first two, Prometheus on the third. They are served without TLS on a port of their own, so they say nothing about
//! tenants: keep tenant names out of metric labels that do not need them.

use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use warp::http::StatusCode;
use warp::{Filter, Rejection, Reply};

/// Media type of the metrics answer (OpenMetrics 1.0).
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the program can answer; starts as "not yet".
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether the program can answer now.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether the program can answer now.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The three routes. `/healthz` answers as long as the process turns; `/readyz` answers 503 until [`Readiness::set`].
pub fn routes(
    readiness: Readiness,
    registry: Arc<Registry>,
) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone + Send + Sync + 'static {
    let live = warp::path!("healthz").and(warp::get()).map(|| warp::reply::with_status("ok".to_owned(), StatusCode::OK));
    let ready = warp::path!("readyz").and(warp::get()).map(move || match readiness.get() {
        true => warp::reply::with_status("ok".to_owned(), StatusCode::OK),
        false => warp::reply::with_status("not ready yet".to_owned(), StatusCode::SERVICE_UNAVAILABLE),
    });
    let metrics = warp::path!("metrics").and(warp::get()).map(move || {
        let mut text = String::new();
        let status = match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => StatusCode::OK,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        warp::reply::with_header(warp::reply::with_status(text, status), "content-type", METRICS_TYPE)
    });
    live.or(ready).unify().or(metrics)
}
