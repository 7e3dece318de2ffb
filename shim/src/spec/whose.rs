//! Whose a container is, in the words of the container runtime that wrote its spec.
//!
//! | runtime | how |
//! |---|---|
//! | containerd | annotations `io.kubernetes.cri.*` of its own; of a pod's it passes on none (the handler's `pod_annotations` is empty) |
//! | CRI-O | annotations too, and it lays a pod's own over those of the sandbox, but the kubelet's labels over all: so of a sandbox only labels count. To a container's the pod adds nothing that stays |
//! | Docker | nothing: each container is a machine of its own |
//!
//! A spec with annotations of two runtimes was in part written by somebody else, and is refused.

use std::collections::BTreeMap;

use super::{Spec, SpecError};

/// The names that a runtime gives.
struct Words {
    /// An annotation that all of its containers have.
    mark: &'static str,
    /// The one by which a pod's sandbox is told, and its value.
    sandbox: (&'static str, &'static str),
    sandbox_id: &'static str,
    namespace: &'static str,
    uid: &'static str,
}

const RUNTIMES: [Words; 2] = [
    Words {
        mark: "io.kubernetes.cri.container-type",
        sandbox: ("io.kubernetes.cri.container-type", "sandbox"),
        sandbox_id: "io.kubernetes.cri.sandbox-id",
        namespace: "io.kubernetes.cri.sandbox-namespace",
        uid: "io.kubernetes.cri.sandbox-uid",
    },
    Words {
        mark: "io.kubernetes.cri-o.ContainerType",
        sandbox: ("io.kubernetes.container.name", "POD"),
        sandbox_id: "io.kubernetes.cri-o.SandboxID",
        namespace: "io.kubernetes.pod.namespace",
        uid: "io.kubernetes.pod.uid",
    },
];

/// Refuses annotations of two runtimes.
///
/// # Errors
/// If there are such.
pub fn refuse_two(annotations: &BTreeMap<String, String>) -> Result<(), SpecError> {
    if RUNTIMES.iter().all(|words| annotations.contains_key(words.mark)) {
        return Err(SpecError::Unsupported {
            what: "annotations of two container runtimes",
            remedy: "remove the pod's annotations that begin with io.kubernetes.cri",
        });
    }
    Ok(())
}

impl Spec {
    fn words(&self) -> Option<&'static Words> {
        RUNTIMES.iter().find(|words| self.annotations.contains_key(words.mark))
    }

    fn said(&self, key: impl FnOnce(&Words) -> &'static str) -> Option<&str> {
        self.annotations.get(key(self.words()?)).map(String::as_str)
    }

    /// The sandbox it belongs to; a sandbox, and a container outside a pod, is its own.
    pub fn group<'a>(&'a self, id: &'a str) -> &'a str {
        if self.is_sandbox() { id } else { self.said(|words| words.sandbox_id).unwrap_or(id) }
    }

    /// The pod's namespace, as the container runtime says it: no pod can.
    pub fn namespace(&self) -> Option<&str> {
        self.said(|words| words.namespace)
    }

    /// It is a pod's sandbox: the machine itself, without a process.
    pub fn is_sandbox(&self) -> bool {
        self.words().is_some_and(|words| self.annotations.get(words.sandbox.0).is_some_and(|value| value == words.sandbox.1))
    }

    /// The pod's UID, if it is one that can be a folder's name.
    pub fn pod_uid(&self) -> Option<&str> {
        let uid = self.said(|words| words.uid)?;
        let plain = uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (plain && !uid.is_empty()).then_some(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::mounts::Planned;
    use crate::volumes::{Owner, Source, classify};

    const SANDBOX: &str = include_str!("../../fixtures/crio/sandbox.json");
    const CONTAINER: &str = include_str!("../../fixtures/crio/container.json");
    const DOCKER: &str = include_str!("../../fixtures/docker/container.json");
    const CONTAINERD: &str = r#"{"annotations":{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"5a5a",
        "io.kubernetes.cri.sandbox-namespace":"team-a","io.kubernetes.cri.sandbox-uid":"b2c9"}}"#;

    fn spec(text: &str) -> Spec {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn each_runtimes_words_are_understood() {
        let containerds_sandbox = CONTAINERD.replace(r#""container""#, r#""sandbox""#);
        for (text, id, expect) in [
            (CONTAINERD, "c0c0", ("5a5a", false, Some("team-a"), Some("b2c9"))),
            (&containerds_sandbox, "5a5a", ("5a5a", true, Some("team-a"), Some("b2c9"))),
            (SANDBOX, "5a5a", ("5a5a", true, Some("team-a"), Some("b2c9"))),
            (CONTAINER, "c0c0", ("5a5a", false, Some("team-a"), Some("b2c9"))),
            (DOCKER, "d0d0", ("d0d0", false, None, None)),
            ("{}", "x", ("x", false, None, None)),
        ] {
            let spec = spec(text);
            assert_eq!((spec.group(id), spec.is_sandbox(), spec.namespace(), spec.pod_uid()), expect, "{text}");
            assert_eq!(refuse_two(&spec.annotations), Ok(()), "{text}");
        }
        for (text, id, alone) in [(SANDBOX, "5a5a", true), (CONTAINER, "c0c0", false), (DOCKER, "d0d0", true)] {
            let spec = spec(text);
            spec.refuse_host_namespaces(alone).unwrap();
            spec.refuse_unsupported().unwrap();
            spec.process.to_start(id, "", Vec::new()).unwrap();
        }
    }

    /// CRI-O lays a pod's annotations over its own of the sandbox, and the kubelet's labels over these.
    #[test]
    fn no_annotation_of_a_pod_makes_it_anothers() {
        for (key, value) in [
            ("io.kubernetes.cri-o.SandboxID", "victim"),
            ("io.kubernetes.cri-o.ContainerType", "container"),
            ("io.kubernetes.cri-o.Namespace", "team-b"),
            ("io.kubernetes.cri.sandbox-id", "victim"),
            ("io.kubernetes.cri.sandbox-namespace", "team-b"),
        ] {
            let mut spec = spec(SANDBOX);
            spec.annotations.insert(key.into(), value.into());
            assert_eq!((spec.group("5a5a"), spec.is_sandbox(), spec.namespace()), ("5a5a", true, Some("team-a")), "{key}");
        }
        let mut spec = spec(SANDBOX);
        spec.annotations.insert("io.kubernetes.cri.container-type".into(), "container".into());
        assert!(refuse_two(&spec.annotations).unwrap_err().to_string().contains("two container runtimes"));
    }

    #[test]
    fn what_each_runtime_mounts_by_itself_has_a_way_into_the_machine() {
        for (text, sandbox, expect) in
            [(CONTAINER, "5a5a", "shm file file file file file tree"), (DOCKER, "d0d0", "files files files files")]
        {
            let spec = spec(text);
            let owner = Owner {
                pod: spec.pod_uid().map(|uid| format!("/var/lib/kubelet/pods/{uid}").into()).unwrap_or_default(),
                sandbox: sandbox.into(),
            };
            let binds = spec.planned().unwrap().into_iter().filter_map(|planned| match planned {
                Planned::Bind(mount) => Some(classify(mount.source.as_ref(), &owner).unwrap()),
                Planned::Guest(_) => None,
            });
            let words: Vec<_> = binds
                .map(|source| match source {
                    Source::Shm => "shm",
                    Source::File { .. } => "file",
                    Source::Tree => "tree",
                    Source::Files => "files",
                    _ => "another",
                })
                .collect();
            assert_eq!(words.join(" "), expect);
        }
    }
}
