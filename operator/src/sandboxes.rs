//! The SandboxRuntimes' controller: the RuntimeClass, labels of proved nodes, status.
//!
//! Only loads, calls and applies; see [`crate::desired::runtime`]. A SandboxRuntime that is deleted takes its RuntimeClass with
//! it; its label stays on nodes, where nothing reads it any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freehold_crds::{SandboxRuntime, SandboxRuntimeStatus};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::controller::Action;
use serde_json::json;

use crate::apply::{FIELD_MANAGER, said};
use crate::conditions::condition;
use crate::desired::runtime;
use crate::owned::Whose;
use crate::tenants::Context;

/// Time until one that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Time until one is looked at although nothing happened. RuntimeClasses of others are seen only then.
const RESYNC: Duration = Duration::from_secs(60);

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
#[error("could not {what} of SandboxRuntime {name}: {}", said(source))]
pub struct Error {
    what: &'static str,
    name: String,
    source: Box<kube::Error>,
}

/// One round for one SandboxRuntime.
///
/// # Errors
/// If its status could not be written or a RuntimeClass not be read.
pub async fn reconcile(sandbox: Arc<SandboxRuntime>, context: Arc<Context>) -> Result<Action, Error> {
    let (name, class) = (sandbox.name_any(), sandbox.spec.runtime_class.name.clone());
    if sandbox.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let failed = |what| {
        let name = name.clone();
        move |source: kube::Error| Error { what, name, source: Box::new(source) }
    };
    let mut refused: Vec<String> = Vec::new();
    let wanted = runtime::runtime_class(&sandbox);
    let serves = match &wanted {
        Some(object) => {
            let put = context.scribe.put(&context.cache, object).await;
            refused.extend(put.as_ref().err().map(ToString::to_string));
            put.is_ok()
        }
        None => {
            let api: Api<RuntimeClass> = Api::all(context.scribe.client.clone());
            api.get_opt(&class).await.map_err(failed("read the RuntimeClass"))?.is_some()
        }
    };
    for key in context.cache.owned_by(&Whose::Runtime(name.clone())) {
        if wanted.as_ref().is_none_or(|wanted| wanted.name != key.name) {
            refused.extend(context.scribe.remove_known(&context.cache, &key).await.err().map(|error| error.to_string()));
        }
    }

    let reports: Vec<_> = context.cache.reports.state().iter().map(|report| (**report).clone()).collect();
    let (proved, nodes) = runtime::nodes(&sandbox, &reports);
    let label = runtime::node_label(&name);
    let labels: BTreeMap<_, _> =
        context.cache.nodes.state().iter().map(|node| (node.name_any(), node.labels().get(&label).cloned())).collect();
    for (node, value) in runtime::relabel(&proved, &labels) {
        let api: Api<Node> = Api::all(context.scribe.client.clone());
        let patch = json!({"metadata": {"labels": {&label: value}}});
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        context.scribe.metrics.wrote_to("Node", "label");
        match api.patch_metadata(&node, &parameters, &Patch::Merge(patch)).await {
            Ok(_) => tracing::info!(node, label, value, "node labelled"),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => refused.push(format!("could not label node {node}: {}", said(&error))),
        }
    }

    let generation = sandbox.metadata.generation;
    let (ready, reason, message) = match refused.first() {
        Some(first) => (false, "ApplyFailed", first.clone()),
        None if !serves => {
            (false, "RuntimeClassMissing", format!("RuntimeClass {class} does not exist, and is said to be someone else's"))
        }
        None if nodes.ready == 0 => {
            let text = format!("no node has proved it yet; {} reported (kubectl get noderuntimes)", nodes.matched);
            (false, "NoNodeReady", text)
        }
        None => (true, "Serving", format!("{} of {} nodes ready", nodes.ready, nodes.matched)),
    };
    let before = sandbox.status.as_ref();
    let conditions = before.map_or(&[][..], |before| &before.conditions);
    let status = SandboxRuntimeStatus {
        observed_generation: generation,
        runtime_class_name: serves.then(|| class.clone()),
        nodes: Some(nodes),
        conditions: vec![condition(conditions, "Ready", ready, reason, message, generation, Timestamp::now())],
    };
    if before != Some(&status) {
        let document = json!({"apiVersion": "freehold.dev/v1alpha1", "kind": "SandboxRuntime", "metadata": {"name": name}, "status": status});
        let api: Api<DynamicObject> = Api::all_with(context.scribe.client.clone(), &ApiResource::erase::<SandboxRuntime>(&()));
        context.scribe.metrics.wrote_to("SandboxRuntime", "status");
        api.patch_status(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&document))
            .await
            .map_err(failed("write the status"))?;
    }
    Ok(Action::requeue(if refused.is_empty() { RESYNC } else { RETRY }))
}

/// A failed round is tried again soon.
pub fn on_error(_: Arc<SandboxRuntime>, error: &Error, _: Arc<Context>) -> Action {
    tracing::warn!(%error, "a round failed");
    Action::requeue(RETRY)
}
