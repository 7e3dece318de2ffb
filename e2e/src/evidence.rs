//! The evidence itself, a module an area; each function tries, checks its control and gives rows.

pub mod belonging;
pub mod collect;
pub mod drill;
pub mod kernel;
pub mod looking;
pub mod network;
pub mod pods;
pub mod stage;
pub mod usage;

use kube::Client;
use kube::api::{Api, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::Answer;

/// Creates an object; what the server said.
async fn create<K>(api: &Api<K>, object: &K) -> anyhow::Result<Answer>
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    Answer::of(api.create(&PostParams::default(), object).await)
}

/// The two stages of the evidence: a namespace of each example tenant.
pub const STAGE_A: &str = "team-a-dev";
/// As [`STAGE_A`], of team-b.
pub const STAGE_B: &str = "team-b-dev";

/// Typed access to a namespaced kind.
fn api<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(client.clone(), namespace)
}
