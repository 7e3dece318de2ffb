//! Keeps our certificate: in a Secret that all replicas share, in our TLS listener, and trusted in the webhook configurations.
//!
//! Input is the clock and what the API server holds; [`crate::generations`] decides. Replicas agree by compare-and-swap on the
//! Secret's resourceVersion: whoever loses reads the winner's. The Secret itself and both configurations are made by the chart;
//! we may only write these three, by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use freehold_serve::stop::Stop;
use freehold_serve::tls::Certificates;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::generations::{self, Generation};
use crate::metrics::Metrics;

/// The key of the Secret's data that holds all generations, so that they change as one.
const DATA_KEY: &str = "generations.json";
/// Bytes of that document which are read; four generations need about 8 KiB.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// Time for one round with the API server.
const ROUND_LIMIT: Duration = Duration::from_secs(10);
/// Tries to win or see the winner of a compare-and-swap in one round.
const MAX_TRIES: usize = 5;
/// Wait after a round that failed.
const RETRY: Duration = Duration::from_secs(1);

/// What we keep and where.
pub struct Keeper {
    /// Way to the API server.
    pub client: Client,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// Name of both webhook configurations.
    pub configuration: String,
    /// Names that the certificate is for.
    pub names: Vec<String>,
    /// How long a certificate is valid.
    pub validity: Duration,
    /// Expiry goes here.
    pub metrics: Metrics,
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Keeper {
    /// The first round: a certificate to serve, trusted in the configurations.
    ///
    /// # Errors
    /// If the API server can't be reached, or the Secret is not there.
    pub async fn begin(&self) -> anyhow::Result<(Arc<Certificates>, Generation)> {
        let alive = self.round().await?;
        let shown = generations::served(now(), &alive).context("no generation to serve")?;
        let certificates = Certificates::new(shown.certificate.as_bytes(), shown.key.as_bytes())?;
        self.metrics.serves_until(shown.not_after);
        Ok((certificates, shown.clone()))
    }

    /// All later rounds, until a stop.
    pub async fn keep(&self, certificates: &Certificates, mut shown: Generation, mut stop: Stop) {
        let mut alive = vec![shown.clone()];
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                () = stop.wait() => return,
                () = tokio::time::sleep(wait) => {}
            }
            match self.round().await {
                Ok(found) => {
                    alive = found;
                    wait = generations::pause(now(), self.validity, &alive);
                }
                Err(error) => {
                    let left = shown.not_after - now();
                    tracing::warn!(
                        error = format!("{error:#}"),
                        seconds_left = left,
                        "certificates could not be looked after; trying again"
                    );
                    wait = RETRY;
                }
            }
            // Also after a failed round: the next generation may be known already, and its time come.
            if let Some(next) = generations::served(now(), &alive)
                && *next != shown
            {
                match certificates.replace(next.certificate.as_bytes(), next.key.as_bytes()) {
                    Ok(()) => {
                        tracing::info!(not_after = next.not_after, "serving another certificate");
                        self.metrics.serves_until(next.not_after);
                        shown = next.clone();
                    }
                    Err(error) => tracing::error!(%error, "the next certificate can't be served; the old one stays"),
                }
            }
        }
    }

    async fn round(&self) -> anyhow::Result<Vec<Generation>> {
        let round = async {
            // The configurations are read first: a patch from an older view of the Secret than theirs is refused as a conflict.
            let mutating = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
            let validating = Api::<ValidatingWebhookConfiguration>::all(self.client.clone());
            let (first, second) = (read(&mutating, &self.configuration).await?, read(&validating, &self.configuration).await?);
            let alive = self.agree().await?;
            let bundle = generations::bundle(&alive);
            let (first, second) = (
                first.map(|one| webhooks(one.webhooks, &one.metadata, |hook| (hook.name, hook.client_config))),
                second.map(|one| webhooks(one.webhooks, &one.metadata, |hook| (hook.name, hook.client_config))),
            );
            trust(&mutating, &self.configuration, first, &bundle).await?;
            trust(&validating, &self.configuration, second, &bundle).await?;
            Ok(alive)
        };
        tokio::time::timeout(ROUND_LIMIT, round)
            .await
            .unwrap_or_else(|_| bail!("the API server did not answer within {} s", ROUND_LIMIT.as_secs()))
    }

    /// Reads the Secret and, if the next generation is due, writes it, or sees that another replica did.
    async fn agree(&self) -> anyhow::Result<Vec<Generation>> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        for _ in 0..MAX_TRIES {
            let mut secret = secrets
                .get(&self.secret)
                .await
                .with_context(|| format!("could not read Secret {}/{}, which the chart makes", self.namespace, self.secret))?;
            let now = now();
            let mut alive = generations::alive(now, self.parse(&secret));
            let Some(times) = generations::due(now, self.validity, &alive) else { return Ok(alive) };
            alive.push(generations::make(&self.names, times).context("could not make a certificate")?);
            let document = ByteString(serde_json::to_vec(&alive)?);
            secret.data = Some(BTreeMap::from([(DATA_KEY.to_owned(), document)]));
            // The resourceVersion that was read goes with it: this is the compare-and-swap.
            match secrets.replace(&self.secret, &PostParams::default(), &secret).await {
                Ok(_) => {
                    tracing::info!(served_from = times.served_from, not_after = times.not_after, "made another certificate");
                    return Ok(alive);
                }
                Err(kube::Error::Api(status)) if status.code == 409 => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("could not write Secret {}/{}", self.namespace, self.secret));
                }
            }
        }
        bail!("Secret {}/{} changed {MAX_TRIES} times while it was written", self.namespace, self.secret)
    }

    fn parse(&self, secret: &Secret) -> Vec<Generation> {
        let Some(document) = secret.data.as_ref().and_then(|data| data.get(DATA_KEY)) else { return Vec::new() };
        if document.0.len() <= MAX_DOCUMENT_BYTES
            && let Ok(generations) = serde_json::from_slice(&document.0)
        {
            return generations;
        }
        tracing::warn!(secret = self.secret, key = DATA_KEY, "what is in the Secret can't be read; it is made anew");
        Vec::new()
    }
}

async fn read<K>(api: &Api<K>, name: &str) -> anyhow::Result<Option<K>>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    api.get_opt(name).await.with_context(|| format!("could not read webhook configuration {name}"))
}

/// What a configuration holds of us: its version, and each webhook's name and CAs.
struct Held {
    version: Option<String>,
    webhooks: Vec<(String, Option<ByteString>)>,
}

fn webhooks<W>(
    webhooks: Option<Vec<W>>,
    metadata: &kube::api::ObjectMeta,
    parts: impl Fn(W) -> (String, WebhookClientConfig),
) -> Held {
    let webhooks = webhooks.unwrap_or_default().into_iter().map(parts).map(|(name, config)| (name, config.ca_bundle)).collect();
    Held { version: metadata.resource_version.clone(), webhooks }
}

/// Writes the CAs into every webhook of a configuration, if they are not there.
async fn trust<K>(api: &Api<K>, name: &str, held: Option<Held>, bundle: &str) -> anyhow::Result<()>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    let Some(held) = held else {
        tracing::warn!(name, "a webhook configuration is not there: nobody will ask us; the chart makes it");
        return Ok(());
    };
    if held.webhooks.iter().all(|(_, ca)| ca.as_ref().is_some_and(|ca| ca.0 == bundle.as_bytes())) {
        return Ok(());
    }
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let webhooks: Vec<_> =
        held.webhooks.iter().map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}})).collect();
    let patch = json!({"metadata": {"resourceVersion": held.version}, "webhooks": webhooks});
    match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => tracing::info!(name, "wrote the CAs that the API server trusts"),
        // Another replica was faster; the next round looks again.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error).with_context(|| format!("could not write the CAs into webhook configuration {name}")),
    }
    Ok(())
}
