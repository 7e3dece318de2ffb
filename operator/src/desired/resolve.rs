//! Which RuntimeClasses a Tenant's pods may name: names of SandboxRuntimes become names of RuntimeClasses.
//!
//! A runtime that does not exist is no error of apply: the Tenant is accepted, says what is missing, and takes it up once it
//! comes. Until then nothing runs in its place.

use std::collections::BTreeMap;

use freehold_crds::{ClassNames, TenantSpec};

/// The SandboxRuntime of a Tenant that names none.
pub const DEFAULT_RUNTIME: &str = "microvm";

/// The answer for one Tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Runtimes {
    /// What its Boundaries say.
    pub classes: ClassNames,
    /// SandboxRuntimes that it names and that do not exist, each once, in its order.
    pub missing: Vec<String>,
}

/// Resolves the names; `known` maps each existing SandboxRuntime to its RuntimeClass.
pub fn runtimes(spec: &TenantSpec, known: &BTreeMap<String, String>) -> Runtimes {
    let fallback = [DEFAULT_RUNTIME.to_owned()];
    let allowed: &[String] = spec.runtimes.as_ref().map_or(&fallback, |runtimes| &runtimes.allowed);
    let default = spec.runtimes.as_ref().and_then(|runtimes| runtimes.default.as_ref()).or(allowed.first());
    let (mut classes, mut missing) = (Vec::<String>::new(), Vec::<String>::new());
    for name in allowed {
        match known.get(name) {
            Some(class) if !classes.contains(class) => classes.push(class.clone()),
            None if !missing.contains(name) => missing.push(name.clone()),
            _ => {}
        }
    }
    let default = default.and_then(|name| known.get(name)).cloned();
    Runtimes { classes: ClassNames { default, allowed: classes }, missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_classes_and_what_is_missing_is_said() {
        let known: BTreeMap<_, _> =
            [("microvm", "freehold-microvm"), ("slow", "freehold-slow")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        for (runtimes, default, allowed, missing) in [
            (None, Some("freehold-microvm"), vec!["freehold-microvm"], vec![]),
            (
                Some(r#"{"allowed": ["slow", "microvm"]}"#),
                Some("freehold-slow"),
                vec!["freehold-slow", "freehold-microvm"],
                vec![],
            ),
            (
                Some(r#"{"default": "microvm", "allowed": ["microvm", "gone"]}"#),
                Some("freehold-microvm"),
                vec!["freehold-microvm"],
                vec!["gone"],
            ),
            (Some(r#"{"default": "gone", "allowed": ["gone", "gone", "slow"]}"#), None, vec!["freehold-slow"], vec!["gone"]),
            (Some(r#"{"allowed": ["gone"]}"#), None, vec![], vec!["gone"]),
        ] {
            let runtimes = runtimes.map_or("null", |text| text);
            let text = format!(r#"{{"owners": [{{"kind": "User", "name": "alice"}}], "runtimes": {runtimes}}}"#);
            let spec: TenantSpec = serde_json::from_str(&text).unwrap();
            let found = super::runtimes(&spec, &known);
            assert_eq!(found.classes.default.as_deref(), default, "{text}");
            assert_eq!(found.classes.allowed, allowed, "{text}");
            assert_eq!(found.missing, missing, "{text}");
        }
    }
}
