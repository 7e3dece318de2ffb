//! Every custom resource of Freehold as a Rust type with schema, rules and documentation.
//!
//! Input: nothing; these are types, and `cargo xtask generate` writes the CRDs of the chart from them. The API server acts
//! on the schemas and their CEL rules, the operator, the webhook and the runtime installer on the types. It is a room of
//! its own, without a client or a runtime, so that whoever only needs the documents does not build a controller.
//!
//! Not here yet: of Tenant, Boundary and SandboxRuntime everything that no controller enforces. A field
//! that would be ignored is not offered.

mod boundary;
mod choice;
mod network;
mod node_network;
mod node_runtime;
mod object_rules;
mod sandbox_runtime;
mod tenant;
mod tenant_class;
mod tenant_namespaces;
mod tenant_rules;

pub use boundary::*;
pub use choice::*;
pub use network::*;
pub use node_network::*;
pub use node_runtime::*;
pub use object_rules::*;
pub use sandbox_runtime::*;
pub use tenant::*;
pub use tenant_class::*;
pub use tenant_namespaces::*;
pub use tenant_rules::*;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResourceExt;

/// The API group of every resource here.
pub const GROUP: &str = "freehold.dev";
/// The label by which a Namespace says whose it is; also on what the operator makes there.
pub const TENANT_LABEL: &str = "freehold.dev/tenant";
/// The name of the one Boundary in a tenant's namespace.
pub const BOUNDARY_NAME: &str = "boundary";
/// The namespace of what runs for the whole cluster.
pub const SYSTEM_NAMESPACE: &str = "freehold-system";
/// The value of `app.kubernetes.io/name` of the pods that answer the questions of tenants whose `dns` is Isolated.
pub const NAME_SERVER: &str = "freehold-dns";
/// The port at which these pods hear UDP and TCP; their Service has 53.
pub const NAME_SERVER_PORT: u16 = 5353;
/// The label on nodes whose canary proved the microVM runtime; a kubelet can't set it on itself.
pub const MICROVM_NODE_LABEL: &str = "freehold.dev.node-restriction.kubernetes.io/microvm";
/// The value of [`MICROVM_NODE_LABEL`] on such nodes.
pub const NODE_READY: &str = "ready";
/// The longest name of a Tenant or SandboxRuntime: names of what is made from them must fit a label value.
pub const MAX_NAME_CHARACTERS: usize = 40;

/// Amounts of resources by name, as in a ResourceQuota.
pub type Quantities = BTreeMap<String, Quantity>;

/// All definitions, in the order in which they are written to the chart.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![Boundary::crd(), NodeNetwork::crd(), NodeRuntime::crd(), SandboxRuntime::crd(), Tenant::crd(), TenantClass::crd()]
}

/// Bounded quantities; the API server reads them again when the ResourceQuota is written.
fn quantities_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {
            "type": "string",
            "maxLength": 32,
            "pattern": "^[0-9]+([.][0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
        }
    })
}

/// As [`quantities_schema`], for a field that may be absent.
fn optional_quantities_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = quantities_schema(generator);
    schema.insert("nullable".to_owned(), true.into());
    schema
}

/// One quantity, bounded as in [`quantities_schema`].
fn quantity_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": "^[0-9]+([.][0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_ours_short_and_bounded_by_rules() {
        let short: Vec<_> = definitions().iter().flat_map(|crd| crd.spec.names.short_names.clone().unwrap()).collect();
        assert_eq!(short, ["bnd", "ndn", "ndr", "sbr", "fht", "fhc"]);
        for crd in definitions() {
            assert_eq!(crd.spec.group, GROUP);
            assert_eq!(crd.spec.names.categories.as_deref(), Some(&["freehold".to_owned()][..]));
            let text = serde_json::to_string(&crd).unwrap();
            assert!(text.contains("x-kubernetes-validations"), "{} has no rule on its name", crd.spec.names.kind);
            assert!(!text.contains("\"uint"), "{} has an unsigned format, which OpenAPI does not know", crd.spec.names.kind);
        }
    }

    /// Of a choice the schema keeps the type's words, not the field's: the default must stand there.
    #[test]
    fn a_choice_that_may_be_absent_says_its_default() {
        fn walk(at: &str, schema: &serde_json::Value, wrong: &mut Vec<String>) {
            let says = schema["description"].as_str().is_some_and(|text| text.contains("if absent"));
            if schema["enum"].is_array() && schema["nullable"] == true && !says {
                wrong.push(at.to_owned());
            }
            for (key, member) in schema["properties"].as_object().into_iter().flatten() {
                walk(&format!("{at}.{key}"), member, wrong);
            }
            if schema["items"].is_object() {
                walk(at, &schema["items"], wrong);
            }
        }
        let mut wrong = Vec::new();
        for crd in definitions() {
            let schema = serde_json::to_value(&crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema).unwrap();
            walk(&crd.spec.names.kind, &schema["properties"]["spec"], &mut wrong);
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn field_names_are_the_published_ones() {
        let boundary = serde_json::json!({
            "apiVersion": "freehold.dev/v1alpha1", "kind": "Boundary", "metadata": {"name": "boundary", "namespace": "a"},
            "spec": {
                "tenant": {"name": "a", "uid": "6f1c", "generation": 4}, "namespaceUID": "8c1e",
                "enforcementMode": "Enforce", "state": "Active",
                "pods": {
                    "runtimeClassNames": {"default": "freehold-microvm", "allowed": ["freehold-microvm"]},
                    "securityLevel": "Restricted", "securityExceptions": ["User"], "userNamespaces": "Required",
                    "images": {"registries": ["registry.example/pay/*"], "pullPolicies": ["Always"], "digest": "Required", "tags": {"forbidden": ["latest"]}},
                    "priorityClassNames": {"default": "normal", "allowed": ["normal"]}, "clusterPriorityClassName": "usual", "qosClasses": ["Guaranteed"],
                    "schedulerNames": ["batch"], "tenancy": "Dedicated", "nodeSelector": {"pool": "shared"},
                    "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
                    "extendedResources": ["nvidia.com/*"], "deviceClassNames": ["gpu"], "tokenAudiences": ["vault"], "csiDrivers": ["csi.trust.example"],
                },
                "services": {
                    "types": ["LoadBalancer"], "loadBalancerClassNames": {"allowed": ["internal"]}, "nodePorts": [{"from": 31000, "to": 31099}], "externalNames": ["*.partner.example"],
                    "annotations": ["metallb.io/*"],
                },
                "ingress": {"classNames": {"default": "nginx", "allowed": ["nginx"]}, "hosts": ["*.pay.example"], "annotations": []},
                "gateway": {"classNames": ["shared"], "parents": ["gateways/shared"]},
                "storage": {"classNames": {"allowed": ["*"]}, "snapshotClassNames": ["fast-*"]}, "objects": [{
                    "kinds": ["Pod"], "labels": {"managed": {"team": "pay"}}, "annotations": {"forbidden": ["policy.example/*"]},
                }],
                "templateViolations": "Deny", "customGroups": ["cert-manager.io"],
                "siblings": ["a"],
            }
        });
        let read: Boundary = serde_json::from_value(boundary.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), boundary);
    }
}
