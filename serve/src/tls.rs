//! TLS for warp routes, with a certificate that can be replaced while serving.
//!
//! Input: certificate chain and key in PEM, from whoever owns them (the webhook makes its own). The next handshake after
//! [`Certificates::replace`] shows the new certificate; connections that run keep theirs, so no call is lost.

use crate::connections::{HANDSHAKE_LIMIT, Routes, accept};
use crate::stop::Stop;
use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A certificate or key that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain does not parse, or holds no certificate.
    #[error("the certificate chain is not usable PEM: {0}; expected one or more CERTIFICATE blocks, the server's first")]
    Chain(String),
    /// The key does not parse.
    #[error("the private key is not usable PEM: {0}; expected one PKCS#8, PKCS#1 or SEC1 block")]
    Key(String),
    /// The key does not belong to the certificate, or is of a kind that is not served.
    #[error("the certificate and the private key do not go together: {0}; replace both at once")]
    Pair(rustls::Error),
    /// The TLS library refused its own defaults.
    #[error("TLS could not be set up: {0}")]
    Setup(rustls::Error),
}

/// The certificate that handshakes show; replaced as a whole, never half.
#[derive(Debug)]
pub struct Certificates(ArcSwap<CertifiedKey>);

impl Certificates {
    /// Parses and checks a chain and its key.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(parse(chain, key)?))))
    }

    /// Shows another certificate from the next handshake on. On an error the old one stays.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.0.store(Arc::new(parse(chain, key)?));
        Ok(())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn parse(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error: rustls::pki_types::pem::Error| TlsError::Chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Chain("no CERTIFICATE block".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(TlsError::Pair)
}

/// Serves routes over TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2, until a stop is asked for and running requests ended.
pub async fn serve(listener: TcpListener, certificates: Arc<Certificates>, routes: Routes, stop: Stop) -> Result<(), TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let prepare = |stream| {
        let handshake = acceptor.accept(stream);
        async move {
            match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
                Ok(Ok(stream)) => Some(stream),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a TLS handshake failed");
                    None
                }
                Err(_) => None,
            }
        }
    };
    accept(listener, routes, stop, prepare).await;
    Ok(())
}
