//! What a Tenant's rules would refuse of what is there already, if it were made anew.
//!
//! Input are the Boundaries of a Tenant's namespaces and the objects in them; output stands in the Tenant's status. Nothing is changed or ended
//! by it: rules hold for what is made or changed from now on, and whoever only looks (`Warn`, `Audit`) or tightens a rule reads here what it
//! would meet. Lists cost the API server, so a namespace is looked through when it joins, when the Tenant changes, and from time to time while
//! there is something to tell or the Tenant only looks. [`judge`] and [`Survey`] decide, [`look`] asks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use freehold_crds::{BoundarySpec, BoundaryState, EnforcementMode, TemplateViolations, TenantWouldDeny};
use freehold_policy::objects::{self, Object, Said, Writer};
use freehold_policy::{Phase, pods, runtime_class, view};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::{Client, ResourceExt as _};

use crate::desired::{MANAGED, MANAGED_LABEL};
use crate::pages::Pages;

/// Time between two looks at a namespace that is looked at again at all.
pub const EVERY: Duration = Duration::from_secs(60);
/// Pages of one kind in one namespace; what is beyond is not looked at.
const MAX_PAGES: usize = 5;
/// Objects that a status names.
const MAX_SAMPLE: usize = 5;
/// Characters of one that is named; names have up to 253, fields a little more.
const MAX_NAMED: usize = 400;

/// What was found in one namespace.
#[derive(Clone, Debug)]
pub struct Found {
    /// Generation of the Tenant that was in force.
    generation: Option<i64>,
    /// When it was.
    at: Instant,
    /// Each object that would be refused, with the first reason.
    refused: Vec<String>,
}

/// What was found in a Tenant's namespaces, by name.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    namespaces: BTreeMap<String, Found>,
}

/// When a namespace is to be looked through.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Generation of the Tenant.
    pub generation: Option<i64>,
    /// Whether the Tenant only looks.
    pub looking: bool,
    /// Whether the namespace has just joined.
    pub joined: bool,
    /// Whether the status before tells something, or speaks of another generation.
    pub open: bool,
    /// Now.
    pub now: Instant,
}

impl Survey {
    /// Whether a namespace is to be looked through now.
    pub fn is_due(&self, namespace: &str, moment: Moment) -> bool {
        match self.namespaces.get(namespace) {
            None => moment.looking || moment.joined || moment.open,
            Some(found) if found.generation != moment.generation => true,
            Some(found) => (moment.looking || !found.refused.is_empty()) && moment.now.duration_since(found.at) >= EVERY,
        }
    }

    /// Keeps what was found.
    pub fn keep(&mut self, namespace: &str, generation: Option<i64>, at: Instant, refused: Vec<String>) {
        self.namespaces.insert(namespace.to_owned(), Found { generation, at, refused });
    }

    /// Forgets namespaces that are the Tenant's no more.
    pub fn retain(&mut self, namespaces: &[String]) {
        self.namespaces.retain(|name, _| namespaces.contains(name));
    }

    /// How many objects would be refused.
    pub fn objects(&self) -> usize {
        self.namespaces.values().map(|found| found.refused.len()).sum()
    }

    /// For the status: None if nothing would be refused.
    pub fn told(&self) -> Option<TenantWouldDeny> {
        let all: Vec<&String> = self.namespaces.values().flat_map(|found| &found.refused).collect();
        let sample = all.iter().take(MAX_SAMPLE).map(|text| text.chars().take(MAX_NAMED).collect()).collect();
        (!all.is_empty()).then(|| TenantWouldDeny { objects: i32::try_from(all.len()).unwrap_or(i32::MAX), sample })
    }
}

/// The Boundary as it would be if the Tenant enforced everything and took new work.
fn enforced(boundary: &BoundarySpec) -> BoundarySpec {
    BoundarySpec {
        enforcement_mode: EnforcementMode::Enforce,
        state: BoundaryState::Active,
        template_violations: TemplateViolations::Deny,
        ..boundary.clone()
    }
}

/// What stands first against an object of this kind; None if it would be admitted, completed where the webhook completes. A pod is judged as it runs: one
/// that is older than its namespace's Boundary may share the node's kernel, whatever a new one would get.
pub fn judge(boundary: &BoundarySpec, namespace: &str, kind: &str, json: &str, made: bool) -> Option<String> {
    let decision = if kind == "Pod" {
        pods::check(boundary, namespace, Phase::Judge, None, &serde_json::from_str::<view::Pod>(json).ok()?)
    } else {
        let mut object = Object::read(kind, json).ok()?;
        // Its address in the cluster was given, for all that can be seen, and one made anew gets another.
        if let Said::Service(service) = &mut object.said {
            service.spec.cluster_ip = None;
            service.spec.cluster_ips.clear();
        }
        objects::check(boundary, namespace, Phase::Complete, Writer::Tenant, None, &object)
    };
    let told = decision.denials.iter().find(|denial| !made || denial.rule == runtime_class::RULE);
    told.map(|denial| format!("{} ({})", denial.field, denial.rule))
}

/// Looks through a namespace: each object that would be refused, named.
///
/// # Errors
/// If the API server did not answer; a kind that it does not serve has no objects.
pub async fn look(client: &Client, namespace: &str, boundary: &BoundarySpec) -> Result<Vec<String>, kube::Error> {
    let (boundary, mut refused) = (enforced(boundary), Vec::new());
    for (group, plural, kind) in [("", "pods", "Pod")].iter().chain(objects::KINDS) {
        let resource = ApiResource {
            group: (*group).to_owned(),
            version: "v1".to_owned(),
            api_version: if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") },
            kind: (*kind).to_owned(),
            plural: (*plural).to_owned(),
        };
        let mut pages = Pages::of(Api::namespaced_with(client.clone(), namespace, &resource));
        for _ in 0..MAX_PAGES {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                Err(error) => return Err(error),
            };
            for object in page.iter().filter(|object| is_judged(object, kind)) {
                let json = serde_json::to_string(object).map_err(kube::Error::SerdeError)?;
                if let Some(why) = judge(&boundary, namespace, kind, &json, is_made(object)) {
                    refused.push(format!("{kind} {namespace}/{}: {why}", object.name_any()));
                }
            }
        }
    }
    Ok(refused)
}

/// What people made: what is ours follows other rules, and what a controller made is judged by what it was made from; but for where a pod runs, which its
/// template may say otherwise by now. Pods that ended run nowhere.
fn is_judged(object: &DynamicObject, kind: &str) -> bool {
    let ended = matches!(object.data["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let counts = if kind == "Pod" { !ended } else { !is_made(object) };
    counts && object.labels().get(MANAGED_LABEL).is_none_or(|value| value != MANAGED)
}

fn is_made(object: &DynamicObject) -> bool {
    object.owner_references().iter().any(|owner| owner.controller == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn boundary() -> BoundarySpec {
        let mut boundary = BoundarySpec { enforcement_mode: EnforcementMode::Warn, ..BoundarySpec::default() };
        boundary.pods.runtime_class_names.allowed = vec!["freehold-microvm".to_owned()];
        boundary.pods.runtime_class_names.default = Some("freehold-microvm".to_owned());
        boundary.pods.images.registries = Some(vec!["registry.example/*".to_owned()]);
        boundary.state = BoundaryState::Cordoned;
        boundary
    }

    #[test]
    fn what_would_be_refused_is_named_and_what_would_be_completed_is_not() {
        let container = |image: &str| json!([{"name": "c", "image": image}]);
        let pod = |image: &str| json!({"metadata": {"name": "p"}, "spec": {"containers": container(image)}});
        let deployment = |image: &str| json!({"metadata": {"name": "d"}, "spec": {"template": pod(image)}});
        let in_machine = |image: &str| json!({"metadata": {"name": "p"}, "spec": {"runtimeClassName": "freehold-microvm", "containers": container(image)}});
        let runtime = Some("spec.runtimeClassName (runtime classes)");
        for (what, kind, object, expected) in [
            ("a pod in a machine", "Pod", in_machine("registry.example/a"), None),
            ("a pod that is older than the Boundary", "Pod", pod("registry.example/a"), runtime),
            (
                "a pod with a foreign image",
                "Pod",
                in_machine("evil.example/a"),
                Some("spec.containers[0].image (image registries)"),
            ),
            ("a template", "Deployment", deployment("registry.example/a"), None),
            (
                "a template with a foreign image",
                "Deployment",
                deployment("evil.example/a"),
                Some("spec.template.spec.containers[0].image (image registries)"),
            ),
            ("a Service", "Service", json!({"spec": {"type": "ClusterIP"}}), None),
            ("a node port", "Service", json!({"spec": {"type": "NodePort"}}), Some("spec.type (service types)")),
            ("nonsense", "Service", json!({"spec": 5}), None),
        ] {
            let found = judge(&enforced(&boundary()), "a-dev", kind, &object.to_string(), false);
            assert_eq!(found.as_deref(), expected, "{what}");
        }
        let made = |object: Value| judge(&enforced(&boundary()), "a-dev", "Pod", &object.to_string(), true);
        assert_eq!(made(pod("evil.example/a")).as_deref(), runtime, "a controller's pod, for where it runs");
        assert_eq!(made(in_machine("evil.example/a")), None, "of a controller's pod its template tells the rest");
    }

    #[test]
    fn only_what_people_made_is_judged() {
        let object = |metadata: serde_json::Value| -> DynamicObject {
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})).unwrap()
        };
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1", "controller": true});
        let of_controller = object(json!({"name": "p", "ownerReferences": [owner]}));
        assert!(is_judged(&object(json!({"name": "p"})), "Service"));
        assert!(!is_judged(&of_controller, "ReplicaSet") && is_judged(&of_controller, "Pod"));
        assert!(!is_judged(&object(json!({"name": "p", "labels": {MANAGED_LABEL: MANAGED}})), "Pod"));
        let mut ended = object(json!({"name": "p"}));
        ended.data = json!({"status": {"phase": "Succeeded"}});
        assert!(!is_judged(&ended, "Pod"));
    }

    #[test]
    fn a_namespace_is_looked_through_when_that_can_tell_something() {
        let now = Instant::now();
        let moment = |generation, looking, joined, open, after: Duration| Moment {
            generation: Some(generation),
            looking,
            joined,
            open,
            now: now + after,
        };
        let (soon, late) = (Duration::ZERO, EVERY);
        let mut survey = Survey::default();
        for (what, moment, due) in [
            ("after a restart, at rest", moment(1, false, false, false, soon), false),
            ("after a restart, looking", moment(1, true, false, false, soon), true),
            ("after a restart, with something to tell", moment(1, false, false, true, soon), true),
            ("one that joined", moment(1, false, true, false, soon), true),
        ] {
            assert_eq!(survey.is_due("a", moment), due, "{what}");
        }
        survey.keep("a", Some(1), now, Vec::new());
        survey.keep("b", Some(1), now, vec!["x".to_owned(); MAX_SAMPLE + 1]);
        for (what, name, moment, due) in [
            ("nothing to tell", "a", moment(1, false, false, false, late), false),
            ("looking, too early", "a", moment(1, true, false, false, soon), false),
            ("looking", "a", moment(1, true, false, false, late), true),
            ("the Tenant changed", "a", moment(2, false, false, false, soon), true),
            ("something to tell", "b", moment(1, false, false, false, late), true),
        ] {
            assert_eq!(survey.is_due(name, moment), due, "{what}");
        }
        let told = survey.told().unwrap();
        assert_eq!((told.objects, told.sample.len()), (6, MAX_SAMPLE));
        survey.retain(&["a".to_owned()]);
        assert_eq!((survey.told(), survey.objects()), (None, 0));
    }
}
