//! Whom a pod asks for names, where its tenant has a name server of its own.
//!
//! Only completed, never refused: what a pod may ask is held by the network, and one that asks elsewhere gets no answer.

use freehold_crds::NameServer;
use serde_json::{Value, json};

use crate::set;
use crate::view::PodSpec;

/// Name servers that a pod may have (Kubernetes' validation of pods, MaxDNSNameservers).
const MAX_NAME_SERVERS: usize = 3;
/// Domains that it may have (MaxDNSSearchPaths).
const MAX_SEARCHES: usize = 32;
/// Dots from which a name is first taken as whole, as the kubelet has it for pods that ask the cluster's DNS.
const DOTS: &str = "5";

/// What makes a pod that would ask the cluster's DNS ask this one; what it says itself comes after it, as with the kubelet.
pub fn complete(server: Option<&NameServer>, pod: &PodSpec) -> Vec<json_patch::PatchOperation> {
    let of_cluster = matches!(pod.dns_policy.as_deref(), None | Some("ClusterFirst" | "ClusterFirstWithHostNet"));
    let Some(server) = server.filter(|_| of_cluster) else { return Vec::new() };
    let own = &pod.dns_config;
    let joined = |ours: &[String], own: &[String], most: usize| -> Value {
        let mut all: Vec<&String> = ours.iter().collect();
        all.extend(own.iter().filter(|one| !ours.contains(one)));
        all.into_iter().take(most).cloned().collect()
    };
    let mut options: Vec<Value> = own
        .options
        .iter()
        .map(|option| {
            option
                .value
                .as_ref()
                .map_or_else(|| json!({"name": option.name}), |value| json!({"name": option.name, "value": value}))
        })
        .collect();
    if !own.options.iter().any(|option| option.name == "ndots") {
        options.push(json!({"name": "ndots", "value": DOTS}));
    }
    let config = json!({
        "nameservers": joined(&server.addresses, &own.nameservers, MAX_NAME_SERVERS),
        "searches": joined(&server.searches, &own.searches, MAX_SEARCHES),
        "options": options,
    });
    vec![set(&["spec"], "dnsPolicy", "None".into()), set(&["spec"], "dnsConfig", config)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Pod;

    #[test]
    fn a_pod_that_asks_the_clusters_dns_asks_its_tenants() {
        let server = NameServer {
            addresses: vec!["10.96.0.53".into()],
            searches: vec!["a.svc.cluster.local".into(), "svc.cluster.local".into()],
        };
        let plain = json!({"nameservers": ["10.96.0.53"], "searches": ["a.svc.cluster.local", "svc.cluster.local"], "options": [{"name": "ndots", "value": "5"}]});
        let own = json!({"nameservers": ["10.96.0.53", "192.0.2.1", "192.0.2.2"], "searches": ["a.svc.cluster.local", "svc.cluster.local", "corp.example"],
            "options": [{"name": "ndots", "value": "1"}, {"name": "use-vc"}]});
        for (spec, expected) in [
            (json!({}), Some(&plain)),
            (json!({"dnsPolicy": "ClusterFirst"}), Some(&plain)),
            (
                json!({"dnsConfig": {"nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.3"], "searches": ["corp.example", "svc.cluster.local"],
                "options": [{"name": "ndots", "value": "1"}, {"name": "use-vc"}]}}),
                Some(&own),
            ),
            (json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"]}}), None),
            (json!({"dnsPolicy": "Default"}), None),
        ] {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            let patch = serde_json::to_value(complete(Some(&server), &pod.spec)).unwrap();
            let wanted = expected.map_or(json!([]), |config| {
                json!([{"op": "add", "path": "/spec/dnsPolicy", "value": "None"}, {"op": "add", "path": "/spec/dnsConfig", "value": config}])
            });
            assert_eq!(patch, wanted, "{spec}");
            assert!(complete(None, &pod.spec).is_empty(), "without a name server of its own nothing is written");
        }
    }
}
