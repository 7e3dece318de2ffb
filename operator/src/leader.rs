//! Leadership: one operator acts at a time, by a Lease that the leader renews.
//!
//! Input is the Lease in our own namespace; output is a permission to act that can be lost. Expiry is judged by how long we
//! saw a record unchanged, never by comparing clocks of two machines.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use freehold_serve::stop::Stop;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

/// Name of the Lease.
const LEASE: &str = "freehold-operator";
/// How long a record holds after it was last renewed.
const DURATION: Duration = Duration::from_secs(15);
/// Time between renewals.
const RENEW: Duration = Duration::from_secs(5);
/// How long renewing may fail before leadership counts as lost: before anyone else may take it.
const LOST: Duration = Duration::from_secs(10);
/// Time between looks of one who waits.
const LOOK: Duration = Duration::from_secs(2);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(4);

/// A candidate, who may be the leader.
pub struct Candidate {
    leases: Api<Lease>,
    namespace: String,
    identity: String,
}

/// What a look at the record says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nobody holds it, or not any more, or we do.
    Take,
    /// Someone else does.
    Wait,
}

fn judge(record: Option<&LeaseSpec>, identity: &str, unchanged_for: Duration) -> Verdict {
    let holder = record.and_then(|record| record.holder_identity.as_deref()).unwrap_or_default();
    let seconds = record.and_then(|record| record.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    let duration = seconds.map_or(DURATION, Duration::from_secs);
    if holder.is_empty() || holder == identity || unchanged_for >= duration { Verdict::Take } else { Verdict::Wait }
}

impl Candidate {
    /// One in `namespace`; `identity` must be of this process alone.
    pub fn new(client: Client, namespace: String, identity: String) -> Self {
        Self { leases: Api::namespaced(client, &namespace), namespace, identity }
    }

    /// Waits until this process leads; false if a stop came first.
    pub async fn lead(&self, stop: &mut Stop) -> bool {
        let (mut seen, mut since) = (None, Instant::now());
        loop {
            match self.attempt(&mut seen, &mut since).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = format!("{error:#}"), "could not read or take the lease; trying again"),
            }
            tokio::select! { () = stop.wait() => return false, () = tokio::time::sleep(LOOK) => {} }
        }
    }

    async fn attempt(&self, seen: &mut Option<LeaseSpec>, since: &mut Instant) -> anyhow::Result<bool> {
        let found = answer(self.leases.get_opt(LEASE)).await?;
        let record = found.as_ref().and_then(|lease| lease.spec.clone());
        if record != *seen {
            (*seen, *since) = (record.clone(), Instant::now());
        }
        if judge(record.as_ref(), &self.identity, since.elapsed()) == Verdict::Wait {
            return Ok(false);
        }
        let transitions = record.as_ref().and_then(|record| record.lease_transitions).unwrap_or_default();
        let Some(mut lease) = found else {
            let metadata =
                ObjectMeta { name: Some(LEASE.into()), namespace: Some(self.namespace.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.record(Timestamp::now(), 0)) };
            answer(self.leases.create(&PostParams::default(), &lease)).await?;
            return Ok(true);
        };
        // The resourceVersion that was read goes along: of two who try, one gets a conflict.
        lease.spec = Some(self.record(Timestamp::now(), transitions + 1));
        answer(self.leases.replace(LEASE, &PostParams::default(), &lease)).await?;
        Ok(true)
    }

    fn record(&self, acquired: Timestamp, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(MicroTime(acquired)),
            renew_time: Some(MicroTime(Timestamp::now())),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Renews until leadership is lost; never ends otherwise.
    pub async fn keep(&self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW.min(LOST.saturating_sub(renewed.elapsed()))).await;
            match self.renew(Some(&self.identity)).await {
                Ok(()) => renewed = Instant::now(),
                Err(error) if renewed.elapsed() >= LOST => {
                    tracing::error!(error = format!("{error:#}"), "leadership is lost");
                    return;
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "could not renew the lease; trying again");
                    tokio::time::sleep(LOOK.min(LOST.saturating_sub(renewed.elapsed()))).await;
                }
            }
        }
    }

    /// Gives leadership up, so that the next one need not wait.
    pub async fn release(&self) {
        if let Err(error) = self.renew(None).await {
            tracing::warn!(error = format!("{error:#}"), "could not release the lease; it expires by itself");
        }
    }

    async fn renew(&self, holder: Option<&str>) -> anyhow::Result<()> {
        let mut lease = answer(self.leases.get(LEASE)).await?;
        let record = lease.spec.get_or_insert_default();
        if record.holder_identity.as_deref() != Some(&self.identity) {
            bail!("another process holds the lease: {}", record.holder_identity.as_deref().unwrap_or("nobody"));
        }
        record.holder_identity = Some(holder.unwrap_or_default().to_owned());
        record.renew_time = Some(MicroTime(Timestamp::now()));
        answer(self.leases.replace(LEASE, &PostParams::default(), &lease)).await.map(drop)
    }
}

async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    let answered = tokio::time::timeout(ANSWER, request).await;
    answered.context("the API server did not answer in time")?.context("the API server refused")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lease_is_waited_for_until_it_was_unchanged_for_its_duration() {
        let held = |holder: &str| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        for (record, seconds, verdict) in [
            (None, 0, Verdict::Take),
            (Some(held("")), 0, Verdict::Take),
            (Some(held("me")), 0, Verdict::Take),
            (Some(held("other")), 0, Verdict::Wait),
            (Some(held("other")), 14, Verdict::Wait),
            (Some(held("other")), 15, Verdict::Take),
        ] {
            assert_eq!(judge(record.as_ref(), "me", Duration::from_secs(seconds)), verdict, "{record:?} {seconds}");
        }
    }
}
