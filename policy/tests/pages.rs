//! Examples say only what their kinds know, and the page that has one whole Tenant has the example that is applied.

use std::path::{Path, PathBuf};

use freehold_crds::{TenantClassSpec, TenantSpec};
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What is left of a spec once it went through its type: a field that the type does not know is gone.
fn known<T: DeserializeOwned + Serialize>(spec: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(spec.clone()).unwrap_or_else(|error| panic!("{error}: {spec}"))).unwrap()
}

/// Paths of `said` that `known` does not have.
fn unknown(at: &str, said: &Value, known: &Value) -> Vec<String> {
    match (said, known) {
        (Value::Object(said), Value::Object(known)) => said
            .iter()
            .flat_map(|(key, value)| unknown(&format!("{at}.{key}"), value, known.get(key).unwrap_or(&Value::Null)))
            .collect(),
        (Value::Array(said), Value::Array(known)) if said.len() == known.len() => {
            said.iter().zip(known).flat_map(|(said, known)| unknown(&format!("{at}[]"), said, known)).collect()
        }
        (said, known) if said == known => Vec::new(),
        _ => vec![at.to_owned()],
    }
}

#[test]
fn examples_say_what_their_kinds_know() {
    let mut tenants = 0;
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap();
            let spec = &object["spec"];
            let known = match object["kind"].as_str() {
                Some("Tenant") => known::<TenantSpec>(spec),
                Some("TenantClass") => known::<TenantClassSpec>(spec),
                kind => panic!("{}: kind {kind:?}", path.display()),
            };
            tenants += usize::from(object["kind"] == "Tenant");
            assert_eq!(unknown("spec", spec, &known), Vec::<String>::new(), "{}", path.display());
        }
    }
    assert!(tenants >= 4, "{tenants} Tenants among the examples");
}

#[test]
fn the_page_has_the_example_that_is_applied() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (page, example) = (read("docs/tenants.md"), read("examples/payments.yaml"));
    assert!(page.contains(&format!("```yaml\n{example}```")), "docs/tenants.md does not have examples/payments.yaml as it is");
}
