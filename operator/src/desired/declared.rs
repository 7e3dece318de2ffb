//! Namespaces that a Tenant declares, and labels that all of its namespaces carry.
//!
//! Input are the Tenant and the labels of the namespaces that it names or has; output is what to make, what to label, and which names are somebody
//! else's: those are told, never taken. A namespace that leaves the list stays.

use std::collections::BTreeMap;

use freehold_crds::{TENANT_LABEL, Tenant};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::namespace::is_cordoned;

/// Labels by name of the namespace.
pub type Known = BTreeMap<String, BTreeMap<String, String>>;

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Declared {
    /// Namespaces to create.
    pub create: Vec<Value>,
    /// Namespaces that lack managed labels, and the labels.
    pub label: Vec<(String, BTreeMap<String, String>)>,
    /// Declared names that belong to somebody else.
    pub taken: Vec<String>,
}

/// What to do for one Tenant.
pub fn declared(tenant: &Tenant, known: &Known) -> Declared {
    let (name, mut todo) = (tenant.name_any(), Declared::default());
    if is_cordoned(tenant) {
        return todo;
    }
    let said = tenant.spec.namespaces.clone().unwrap_or_default();
    let managed = said.labels.and_then(|labels| labels.managed).unwrap_or_default();
    for namespace in said.declared.into_iter().flatten() {
        match known.get(&namespace.name) {
            Some(labels) if labels.get(TENANT_LABEL) != Some(&name) => todo.taken.push(namespace.name),
            Some(_) => {}
            None => {
                let mut labels = namespace.labels.unwrap_or_default();
                labels.extend(managed.clone());
                labels.insert(TENANT_LABEL.to_owned(), name.clone());
                let metadata = json!({"name": namespace.name, "labels": labels});
                todo.create.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
            }
        }
    }
    for (namespace, labels) in known.iter().filter(|(_, labels)| labels.get(TENANT_LABEL) == Some(&name)) {
        let lacking: BTreeMap<_, _> = managed
            .iter()
            .filter(|(key, value)| labels.get(*key) != Some(*value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !lacking.is_empty() {
            todo.label.push((namespace.clone(), lacking));
        }
    }
    todo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_made_and_what_is_somebody_elses_is_left() {
        let tenant = crate::fixtures::tenant(
            "a",
            json!({"owners": [{"kind": "User", "name": "alice"}], "namespaces": {
                "declared": [{"name": "a-prod", "labels": {"env": "prod"}}, {"name": "a-dev"}, {"name": "taken"}, {"name": "free"}],
                "labels": {"managed": {"team": "pay"}},
            }}),
        );
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let known: Known = [
            ("a-dev", labels(&[(TENANT_LABEL, "a"), ("x", "y")])),
            ("taken", labels(&[(TENANT_LABEL, "b")])),
            ("a-old", labels(&[(TENANT_LABEL, "a"), ("team", "other")])),
            ("a-well", labels(&[(TENANT_LABEL, "a"), ("team", "pay")])),
            ("other", labels(&[])),
        ]
        .map(|(name, labels)| (name.to_owned(), labels))
        .into();
        let todo = declared(&tenant, &known);
        let made: Vec<_> = todo.create.iter().map(|object| object["metadata"].clone()).collect();
        assert_eq!(
            made,
            [
                json!({"name": "a-prod", "labels": {"env": "prod", "team": "pay", TENANT_LABEL: "a"}}),
                json!({"name": "free", "labels": {"team": "pay", TENANT_LABEL: "a"}}),
            ]
        );
        assert_eq!(todo.taken, ["taken"]);
        let labelled: Vec<_> = todo.label.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(labelled, ["a-dev", "a-old"]);
        let mut cordoned = tenant;
        cordoned.spec.state = Some(freehold_crds::TenantState::Cordoned);
        assert_eq!(declared(&cordoned, &known), Declared::default(), "nothing changes in a cordoned tenant");
    }
}
