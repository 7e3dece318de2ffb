//! A storm: pods that many create at once, hostile ones by turns with compliant ones, while something happens to who judges them.
//!
//! Nothing of it runs: what is admitted asks for a node that there is not, and is deleted at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::ensure;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use crate::live::SOON;
use crate::{Answer, objects, wait};

/// Requests at once.
const AT_ONCE: usize = 16;
/// The class that the webhook fills in.
const CLASS: &str = "freehold-microvm";

/// What is sent, and how far it is.
pub struct Storm {
    /// Where.
    pub pods: Api<Pod>,
    /// Whether the API server stores what it admits.
    pub stored: bool,
    /// How often a pod that names no class, which the webhook alone completes, may be tried again; none are sent if absent.
    pub retries: Option<usize>,
    answered: AtomicUsize,
    retried: AtomicUsize,
}

impl Storm {
    /// One that has not begun.
    pub fn new(pods: Api<Pod>, stored: bool, retries: Option<usize>) -> Self {
        Self { pods, stored, retries, answered: AtomicUsize::new(0), retried: AtomicUsize::new(0) }
    }

    /// Pods that were answered as they must be so far, and those of them that were tried more than once.
    pub fn counts(&self) -> (usize, usize) {
        (self.answered.load(Ordering::Relaxed), self.retried.load(Ordering::Relaxed))
    }

    /// Waits until so many more were answered.
    ///
    /// # Errors
    /// After [`SOON`].
    pub async fn more(&self, count: usize) -> anyhow::Result<()> {
        let aim = self.counts().0 + count;
        wait::until(&format!("{count} more answers"), SOON, || async {
            ensure!(self.counts().0 >= aim, "{} of {aim}", self.counts().0);
            Ok(())
        })
        .await
    }

    /// Goes on until `meanwhile` has ended; what came of that.
    ///
    /// # Errors
    /// If that failed, if anything hostile was admitted, or if anything compliant was not.
    pub async fn around<T>(&self, meanwhile: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let (over, next) = (AtomicBool::new(false), AtomicUsize::new(0));
        let many = (0..AT_ONCE).map(|_| async {
            while !over.load(Ordering::Relaxed) {
                self.one(next.fetch_add(1, Ordering::Relaxed)).await?;
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
        let meanwhile = async {
            let came = meanwhile.await;
            over.store(true, Ordering::Relaxed);
            came
        };
        let (came, _) = tokio::try_join!(meanwhile, try_join_all(many))?;
        // An answer may be lost, what is stored is not.
        for pod in self.pods.list(&ListParams::default()).await? {
            let name = pod.metadata.name.unwrap_or_default();
            ensure!(!name.starts_with("hostile"), "{name} stands there");
        }
        Ok(came)
    }

    async fn one(&self, n: usize) -> anyhow::Result<()> {
        let nowhere = ("/nodeSelector", json!({"no": "node"}));
        if n.is_multiple_of(2) {
            let all = objects::hostile_pods();
            let (what, path, value) = all[n / 2 % all.len()].clone();
            let (answer, _) = self.create(&objects::pod(&format!("hostile-{n}"), "true", &[nowhere, (path, value)])).await?;
            ensure!(answer != Answer::Admitted, "pod {n}, {what}, was admitted");
            return Ok(());
        }
        let unnamed = self.retries.filter(|_| n % 4 == 3);
        let mut changes = vec![nowhere];
        changes.extend(unnamed.map(|_| ("/runtimeClassName", Value::Null)));
        let pod = objects::pod(&format!("compliant-{n}"), "true", &changes);
        for tries in 0.. {
            match self.create(&pod).await? {
                (Answer::Admitted, class) if class.as_deref() == Some(CLASS) => break,
                (Answer::Admitted, class) => anyhow::bail!("pod {n} was admitted with class {class:?}"),
                (answer, _) => ensure!(tries < unnamed.unwrap_or(0), "pod {n}, compliant, {tries} tries before: {answer}"),
            }
            self.retried.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The answer, and the class of what was admitted.
    async fn create(&self, pod: &Pod) -> anyhow::Result<(Answer, Option<String>)> {
        let created = self.pods.create(&PostParams { dry_run: !self.stored, ..PostParams::default() }, pod).await;
        let class = created.as_ref().ok().and_then(|pod| pod.spec.as_ref()?.runtime_class_name.clone());
        let answer = Answer::of(created)?;
        if answer == Answer::Admitted && self.stored {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            self.pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
        }
        Ok((answer, class))
    }
}
