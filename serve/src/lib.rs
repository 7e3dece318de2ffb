//! What every server of Freehold shares: logging, health and metrics, TLS with hot reload, graceful stop.
//!
//! Input: routes (warp filters), a registry of metrics, a certificate and key in PEM. The kubelet acts on the health
//! answers, Prometheus on the metrics, the API server on whatever the routes say. It stands apart so that the operator,
//! the webhook and the installer bound and end their connections in the same way, and none of them repeats TLS.
//!
//! Not here: client certificates are not asked for, and certificates are not watched in files; whoever owns them calls
//! [`tls::Certificates::replace`].

pub mod connections;
pub mod health;
pub mod logging;
pub mod stop;
pub mod tls;
