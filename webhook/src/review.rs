//! AdmissionReview v1: what the API server asks, and the form of our answer. Pure.
//!
//! Input are bytes from whoever reached our port, bounded by [`MAX_REVIEW_BYTES`]; output is what [`crate::decide`] judges.
//! Objects are decoded only once their kind is known, and only the parts that rules read.

use std::collections::{BTreeMap, BTreeSet};

use freehold_policy::objects::{self, Object};
use freehold_policy::view::{Namespace, Pod};
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Size of a review: the store takes objects up to 1.5 MiB, and an update carries two. A larger one is answered 413, and so
/// left to the floor.
pub const MAX_REVIEW_BYTES: u64 = 3 * 1024 * 1024;
/// Characters of a message: some thirty denials whole and the fields of a hundred more; those beyond are counted.
pub const MAX_MESSAGE_CHARACTERS: usize = 16 * 1024;

/// Who asks, as the API server authenticated them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct User {
    /// User name.
    pub username: String,
    /// UID, where the authenticator gives one.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Further attributes, which an authorizer may read.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The object that is judged.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A Namespace that is created, or updated from `old`.
    Namespace {
        /// Before.
        old: Option<Namespace>,
        /// After.
        new: Namespace,
    },
    /// A pod that is created, or updated from `old`.
    Pod {
        /// The namespace it is in.
        namespace: String,
        /// Before.
        old: Option<Box<Pod>>,
        /// After.
        new: Box<Pod>,
    },
    /// Another object of a namespace that has rules.
    Object {
        /// Its kind.
        kind: &'static str,
        /// The namespace it is in.
        namespace: String,
        /// Before.
        old: Option<Box<Object>>,
        /// After.
        new: Box<Object>,
    },
    /// An object that is being deleted: finalizers must always be able to go.
    Ending,
    /// Nothing that we judge.
    Foreign,
}

/// One question of the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    /// The API server's name of the question; the answer repeats it.
    pub uid: String,
    /// Who asks.
    pub user: User,
    /// What about.
    pub subject: Subject,
}

impl Review {
    /// The kind, as metrics name it.
    pub fn kind(&self) -> &'static str {
        match self.subject {
            Subject::Namespace { .. } => "Namespace",
            Subject::Pod { .. } => "Pod",
            Subject::Object { kind, .. } => kind,
            Subject::Ending => "Ending",
            Subject::Foreign => "Other",
        }
    }
}

/// A review that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no AdmissionReview that can be answered: {why}")]
pub struct Unreadable {
    /// Its uid as far as that could be read.
    pub uid: String,
    /// What is wrong.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: String,
    resource: Resource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    operation: String,
    user_info: User,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    group: String,
    version: String,
    resource: String,
}

/// The one field of metadata that no rule of `policy` reads.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Ending {
    metadata: EndingMetadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EndingMetadata {
    deletion_timestamp: Option<String>,
}

/// Reads a review.
///
/// # Errors
/// If it is no AdmissionReview v1 with a request, or its object is not of the kind it says.
pub fn read(bytes: &[u8]) -> Result<Review, Unreadable> {
    let fault = |uid: &str, why: String| Unreadable { uid: uid.to_owned(), why };
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| fault("", error.to_string()))?;
    if envelope.api_version != "admission.k8s.io/v1" || envelope.kind != "AdmissionReview" {
        return Err(fault("", "expected kind AdmissionReview of admission.k8s.io/v1".to_owned()));
    }
    let request = envelope.request.ok_or_else(|| fault("", "there is no request in it".to_owned()))?;
    let in_object = |error: serde_json::Error| fault(&request.uid, format!("its object: {error}"));
    let subject = subject(&request).map_err(in_object)?;
    Ok(Review { uid: request.uid, user: request.user_info, subject })
}

fn subject(request: &Request) -> serde_json::Result<Subject> {
    let Some(object) = request.object.filter(|_| matches!(request.operation.as_str(), "CREATE" | "UPDATE")) else {
        return Ok(Subject::Foreign);
    };
    let Resource { group, version, resource } = &request.resource;
    let names = (group.as_str(), version.as_str(), resource.as_str(), request.sub_resource.as_deref().unwrap_or_default());
    let update = request.operation == "UPDATE";
    let old = request.old_object.filter(|_| update);
    let sub_resource = names.3;
    let other = objects::kind(group, resource).filter(|_| sub_resource.is_empty());
    match names {
        _ if other.is_some() => {}
        ("", "v1", "namespaces", _) | ("", "v1", "pods", "" | "ephemeralcontainers" | "resize") => {}
        _ => return Ok(Subject::Foreign),
    }
    if serde_json::from_str::<Ending>(object.get())?.metadata.deletion_timestamp.is_some() {
        return Ok(Subject::Ending);
    }
    if let Some(kind) = other {
        return Ok(Subject::Object {
            kind,
            namespace: request.namespace.clone().unwrap_or_default(),
            old: old.map(|old| Object::read(kind, old.get()).map(Box::new)).transpose()?,
            new: Box::new(Object::read(kind, object.get())?),
        });
    }
    Ok(match resource.as_str() {
        "namespaces" => Subject::Namespace {
            old: old.map(|old| serde_json::from_str(old.get())).transpose()?,
            new: serde_json::from_str(object.get())?,
        },
        _ => Subject::Pod {
            namespace: request.namespace.clone().unwrap_or_default(),
            old: old.map(|old| serde_json::from_str(old.get())).transpose()?,
            new: serde_json::from_str(object.get())?,
        },
    })
}

/// What stood against an object: for the API server's audit log and for figures. In each form the rules are from a fixed set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The tenant, as somebody else than the requester says it; empty if nobody does.
    pub tenant: String,
    /// `denied`, `warned` or `audited`.
    pub outcome: &'static str,
    /// The rules.
    pub rules: BTreeSet<&'static str>,
}

/// What we answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Whether the request may go on.
    pub allowed: bool,
    /// For the person who asked, if it may not.
    pub message: String,
    /// HTTP code of a refusal.
    pub code: u16,
    /// For the person who asked, if it may.
    pub warnings: Vec<String>,
    /// What completes the object.
    pub patch: json_patch::Patch,
    /// The outcome in one word, for metrics and logs.
    pub outcome: &'static str,
    /// What stood against the object, if anything did.
    pub told: Option<Told>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Out<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    /// The API server puts the name of our webhook and a slash before each key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    message: &'a str,
}

impl Answer {
    /// Nothing stands against it, nothing to add.
    pub fn pass(outcome: &'static str) -> Self {
        Self { allowed: true, outcome, ..Self::default() }
    }

    /// A refusal with a message, cut to [`MAX_MESSAGE_CHARACTERS`].
    pub fn refuse(outcome: &'static str, code: u16, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE_CHARACTERS) {
            message.truncate(end);
            message.push('…');
        }
        Self { allowed: false, message, code, outcome, ..Self::default() }
    }

    fn audit_annotations(&self) -> BTreeMap<&'static str, String> {
        let Some(told) = &self.told else { return BTreeMap::new() };
        let rules = told.rules.iter().copied().collect::<Vec<_>>().join(", ");
        let all = [("tenant", told.tenant.clone()), ("outcome", told.outcome.to_owned()), ("rules", rules)];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The answer as an AdmissionReview.
    ///
    /// # Errors
    /// Never in practice: everything in it has a JSON form.
    pub fn encode(&self, uid: &str) -> serde_json::Result<Vec<u8>> {
        let patch = if self.patch.0.is_empty() { None } else { Some(ByteString(serde_json::to_vec(&self.patch)?)) };
        serde_json::to_vec(&Out {
            api_version: "admission.k8s.io/v1",
            kind: "AdmissionReview",
            response: Response {
                uid,
                allowed: self.allowed,
                status: (!self.allowed).then_some(Status { code: self.code, message: &self.message }),
                warnings: &self.warnings,
                audit_annotations: self.audit_annotations(),
                patch_type: patch.is_some().then_some("JSONPatch"),
                patch,
            },
        })
    }
}
