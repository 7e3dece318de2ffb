//! Writes objects so that they are what they must be, and nothing when they are already.
//!
//! Input are desired objects and what the cache holds. Server-side apply with one field manager leaves labels and
//! annotations of others alone; what others added to a spec goes.

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt as _};
use serde_json::Value;

use crate::cache::Cache;
use crate::desired::{Kind, Object};
use crate::metrics::Metrics;
use crate::owned::Key;

/// Name under which the API server records our fields.
pub const FIELD_MANAGER: &str = "freehold-operator";

/// A write that the API server refused or that did not reach it.
#[derive(Debug, thiserror::Error)]
#[error("could not {verb} {kind} {name}: {}", said(source))]
pub struct WriteError {
    verb: &'static str,
    kind: String,
    name: String,
    source: Box<kube::Error>,
}

impl WriteError {
    /// Whether the API server will say the same again: no conflict, no overload, no failure on the way.
    pub fn is_refusal(&self) -> bool {
        matches!(&*self.source, kube::Error::Api(status) if (400..500).contains(&status.code) && !matches!(status.code, 404 | 408 | 409 | 429))
    }
}

/// What the API server said, without the rest of its answer.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// The writing side of the client.
#[derive(Clone)]
pub struct Scribe {
    /// The client of everything.
    pub client: Client,
    /// Counts every write.
    pub metrics: Metrics,
}

impl Scribe {
    fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = kind.resource();
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Puts an object in place; gives it as it is stored now.
    ///
    /// # Errors
    /// If the API server refused.
    pub async fn put(&self, cache: &Cache, object: &Object) -> Result<Value, WriteError> {
        if let Some(live) = cache.live(object).filter(|live| object.is_settled(live)) {
            return Ok(live);
        }
        self.write(object).await
    }

    /// Writes an object whatever is stored; gives it as it is stored now.
    ///
    /// # Errors
    /// If the API server refused.
    pub async fn write(&self, object: &Object) -> Result<Value, WriteError> {
        let api = self.api(object.kind, object.namespace.as_deref());
        let failed = |verb| {
            move |source: kube::Error| WriteError {
                verb,
                kind: object.kind.resource().kind,
                name: object.namespace.iter().chain([&object.name]).cloned().collect::<Vec<_>>().join("/"),
                source: Box::new(source),
            }
        };
        let apply = || async {
            self.metrics.wrote(object.kind, "apply");
            api.patch(&object.name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object.document)).await
        };
        let mut live = match apply().await {
            // roleRef never changes: someone made another object under our name. A policy's refusal has the same code, and is none.
            Err(kube::Error::Api(status))
                if status.code == 422
                    && object.kind.has_fixed_fields()
                    && !status.message.contains("ValidatingAdmissionPolicy") =>
            {
                tracing::warn!(kind = ?object.kind, name = object.name, reason = status.message, "made anew");
                self.metrics.wrote(object.kind, "delete");
                api.delete(&object.name, &DeleteParams::default()).await.map_err(failed("replace"))?;
                apply().await
            }
            applied => applied,
        }
        .map_err(failed("apply"))?;
        if !object.is_settled(&value(&live)) {
            // Another field manager added to it; apply leaves that alone, a replacement does not.
            let mut document = object.document.clone();
            document["metadata"]["resourceVersion"] = live.resource_version().unwrap_or_default().into();
            let replacement: DynamicObject =
                serde_json::from_value(document).map_err(|error| failed("replace")(kube::Error::SerdeError(error)))?;
            self.metrics.wrote(object.kind, "replace");
            live = api.replace(&object.name, &PostParams::default(), &replacement).await.map_err(failed("replace"))?;
        }
        tracing::info!(kind = ?object.kind, namespace = object.namespace, name = object.name, "written");
        Ok(value(&live))
    }

    /// Deletes an object of ours as the cache has it, if it has it.
    ///
    /// # Errors
    /// If the API server refused.
    pub async fn remove_known(&self, cache: &Cache, key: &Key) -> Result<(), WriteError> {
        // What is kept came from the API server, so it has this form.
        match cache.owned.get(key).and_then(|live| serde_json::from_value(live).ok()) {
            Some(seen) => self.remove(key.kind, &seen).await,
            None => Ok(()),
        }
    }

    /// Deletes an object as it was seen; one that changed or went meanwhile is left for the next look.
    ///
    /// # Errors
    /// If the API server refused.
    pub async fn remove(&self, kind: Kind, seen: &DynamicObject) -> Result<(), WriteError> {
        let preconditions = Preconditions { uid: seen.uid(), resource_version: seen.resource_version() };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        self.metrics.wrote(kind, "delete");
        match self.api(kind, seen.namespace().as_deref()).delete(&seen.name_any(), &parameters).await {
            Ok(_) => tracing::info!(?kind, namespace = seen.namespace(), name = seen.name_any(), "removed"),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(source) => {
                let name = seen.namespace().into_iter().chain([seen.name_any()]).collect::<Vec<_>>().join("/");
                return Err(WriteError { verb: "delete", kind: kind.resource().kind, name, source: Box::new(source) });
            }
        }
        Ok(())
    }
}

fn value(object: &DynamicObject) -> Value {
    // A document that came as JSON is JSON.
    serde_json::to_value(object).unwrap_or_default()
}
