//! NetworkPolicies of a tenant: cases by hand, and a property against the network enforcer's reference evaluator.

use freehold_crds::Network;
use freehold_network_enforcer::convert;
use freehold_network_enforcer::core::evaluate::{Flow, Target, allows};
use freehold_network_enforcer::core::view::{Direction, Fence, Key, NamedPort, Namespace, Pod, Protocol, Rule, Tenancy, View};
use freehold_network_enforcer::fence::{Cluster, fence};
use freehold_policy::network::judge;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

fn policy(spec: Value) -> NetworkPolicy {
    serde_json::from_value(json!({"metadata": {"name": "own", "namespace": "a-dev"}, "spec": spec})).unwrap()
}

fn network() -> Network {
    serde_json::from_value(json!({
        "ingressFrom": [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}, "ports": [{"port": 80}, {"port": 81}]},
            {"namespaceSelector": {"matchLabels": {"role": "monitoring"}}, "podSelector": {"matchLabels": {"app": "prometheus"}}},
        ],
        "egressTo": [{"cidr": "0.0.0.0/0", "ports": [{"port": 443}]}, {"cidr": "192.0.2.0/24"}],
        "peers": [{"tenantName": "b", "ports": [{"port": 443}]}],
    }))
    .unwrap()
}

fn denied(spec: Value, network: &Network) -> Vec<String> {
    judge(None, &policy(spec).spec.unwrap(), "a", "a-dev", network).into_iter().map(|denial| denial.field).collect()
}

#[test]
fn a_tenant_may_say_less_than_its_boundary_and_not_more() {
    let nobodys = json!([{"key": "freehold.dev/tenant", "operator": "DoesNotExist"}]);
    let from = |peer: Value| json!({"podSelector": {}, "ingress": [{"from": [peer]}]});
    let at = |peer: Value, ports: Value| json!({"podSelector": {}, "ingress": [{"from": [peer], "ports": ports}]});
    let to = |peer: Value, ports: Value| json!({"podSelector": {}, "egress": [{"to": [peer], "ports": ports}]});
    let ingress =
        json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}, "matchExpressions": nobodys}});
    let dns = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}});
    for (spec, expected) in [
        (json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}), vec![]),
        (from(json!({"podSelector": {}})), vec![]),
        (from(json!({"namespaceSelector": {"matchLabels": {"freehold.dev/tenant": "a"}}})), vec![]),
        (
            from(
                json!({"namespaceSelector": {"matchExpressions": [{"key": "freehold.dev/tenant", "operator": "In", "values": ["a"]}]}}),
            ),
            vec![],
        ),
        (from(json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "a-dev"}}})), vec![]),
        (
            from(json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "a-prod"}}})),
            vec!["spec.ingress[0].from[0]"],
        ),
        (json!({"podSelector": {}, "ingress": [{}]}), vec!["spec.ingress[0].from"]),
        (
            json!({"podSelector": {}, "egress": [{}], "ingress": [{"from": []}]}),
            vec!["spec.ingress[0].from", "spec.egress[0].to"],
        ),
        (from(json!({"namespaceSelector": {}})), vec!["spec.ingress[0].from[0]"]),
        (from(json!({"namespaceSelector": {"matchLabels": {"freehold.dev/tenant": "c"}}})), vec!["spec.ingress[0].from[0]"]),
        (
            from(
                json!({"namespaceSelector": {"matchExpressions": [{"key": "freehold.dev/tenant", "operator": "In", "values": ["a", "c"]}]}}),
            ),
            vec!["spec.ingress[0].from[0]"],
        ),
        (
            from(
                json!({"namespaceSelector": {"matchExpressions": [{"key": "freehold.dev/tenant", "operator": "NotIn", "values": ["c"]}]}}),
            ),
            vec!["spec.ingress[0].from[0]"],
        ),
        (at(ingress.clone(), json!([{"port": 80}, {"port": 80, "endPort": 81}])), vec![]),
        (at(ingress.clone(), json!([{"port": 80, "endPort": 82}])), vec!["spec.ingress[0].ports"]),
        (at(ingress.clone(), json!([{"port": 80, "protocol": "UDP"}])), vec!["spec.ingress[0].ports"]),
        (at(ingress.clone(), json!([{"port": "http"}])), vec!["spec.ingress[0].ports"]),
        (from(ingress), vec!["spec.ingress[0].ports"]),
        (
            from(json!({"namespaceSelector": {"matchLabels": {"role": "monitoring"}, "matchExpressions": nobodys}})),
            vec!["spec.ingress[0].from[0]"],
        ),
        (
            from(
                json!({"namespaceSelector": {"matchLabels": {"role": "monitoring"}}, "podSelector": {"matchLabels": {"app": "prometheus"}}}),
            ),
            vec!["spec.ingress[0].from[0]"],
        ),
        (at(json!({"namespaceSelector": {"matchLabels": {"freehold.dev/tenant": "b"}}}), json!([{"port": 443}])), vec![]),
        (
            at(json!({"namespaceSelector": {"matchLabels": {"freehold.dev/tenant": "b"}}}), json!([{"port": 80}])),
            vec!["spec.ingress[0].ports"],
        ),
        (from(json!({"ipBlock": {"cidr": "192.0.2.0/24"}})), vec!["spec.ingress[0].from[0]"]),
        (to(json!({"ipBlock": {"cidr": "192.0.2.0/25"}}), json!([])), vec![]),
        (to(json!({"ipBlock": {"cidr": "10.0.0.0/8"}}), json!([{"port": 443}])), vec![]),
        (to(json!({"ipBlock": {"cidr": "10.0.0.0/8"}}), json!([])), vec!["spec.egress[0].ports"]),
        (to(json!({"ipBlock": {"cidr": "0.0.0.0/0"}}), json!([{"port": 443}])), vec!["spec.egress[0].to[0]"]),
        (to(json!({"ipBlock": {"cidr": "169.254.169.254/32"}}), json!([{"port": 443}])), vec!["spec.egress[0].to[0]"]),
        (to(dns.clone(), json!([{"port": 53, "protocol": "UDP"}])), vec![]),
        (to(dns, json!([{"port": 80}])), vec!["spec.egress[0].ports"]),
    ] {
        assert_eq!(denied(spec.clone(), &network()), expected, "{spec}");
    }
    // Without a wish there is only the tenant itself, and only one's own namespace if it says so.
    let only: Network = serde_json::from_value(json!({"withinTenant": "NamespaceOnly"})).unwrap();
    let tenant = from(json!({"namespaceSelector": {"matchLabels": {"freehold.dev/tenant": "a"}}}));
    assert_eq!(denied(tenant, &only), ["spec.ingress[0].from[0]"]);
    let everyone = policy(json!({"podSelector": {}, "ingress": [{}]})).spec.unwrap();
    let denials = judge(None, &everyone, "a", "a-dev", &Network::default());
    let message = denials[0].to_string();
    assert!(message.contains("spec.ingress[0].from") && message.contains("freehold.dev/tenant=a"), "{message}");
}

fn selector() -> impl Strategy<Value = Value> {
    let key = select(vec!["freehold.dev/tenant", "kubernetes.io/metadata.name", "role"]);
    let value = select(vec!["a", "b", "c", "a-dev", "ingress", "kube-system", "monitoring"]);
    let expression =
        (key.clone(), select(vec!["In", "NotIn", "Exists", "DoesNotExist"]), prop::collection::vec(value.clone(), 1..3))
            .prop_map(|(key, operator, values)| match operator {
                "In" | "NotIn" => json!({"key": key, "operator": operator, "values": values}),
                _ => json!({"key": key, "operator": operator}),
            });
    let label = prop::collection::btree_map(key, value, 0..2);
    (label, prop::collection::vec(expression, 0..2))
        .prop_map(|(labels, expressions)| json!({"matchLabels": labels, "matchExpressions": expressions}))
}

fn rule(key: &'static str) -> impl Strategy<Value = Value> {
    let pods =
        select(vec![json!({}), json!({"matchLabels": {"app": "prometheus"}}), json!({"matchLabels": {"k8s-app": "kube-dns"}})]);
    let block = select(vec!["0.0.0.0/0", "10.244.0.0/16", "192.0.2.0/25", "169.254.169.254/32"]);
    let except = select(vec![json!([]), json!(["169.254.0.0/16"])]);
    let peer = prop_oneof![
        3 => (selector(), prop::option::of(pods.clone())).prop_map(|(namespaces, pods)| match pods {
            Some(pods) => json!({"namespaceSelector": namespaces, "podSelector": pods}),
            None => json!({"namespaceSelector": namespaces}),
        }),
        1 => pods.prop_map(|pods| json!({"podSelector": pods})),
        1 => (block, except).prop_map(|(cidr, except)| json!({"ipBlock": {"cidr": cidr, "except": except}})),
    ];
    let port = select(vec![
        json!({"port": 80}),
        json!({"port": 443}),
        json!({"port": 80, "endPort": 82}),
        json!({"port": 53, "protocol": "UDP"}),
        json!({"protocol": "TCP"}),
        json!({"port": "web"}),
    ]);
    (prop::collection::vec(peer, 0..2), prop::collection::vec(port, 0..2))
        .prop_map(move |(peers, ports)| json!({key: peers, "ports": ports}))
}

/// One pod in a namespace of each kind that a selector can mean, and the tenant's own pod on this node.
fn world() -> View {
    let mut view = View::default();
    for (index, (name, tenant, role)) in [
        ("a-dev", Some("a"), None),
        ("a-prod", Some("a"), Some("monitoring")),
        ("b-dev", Some("b"), None),
        ("c-dev", Some("c"), Some("monitoring")),
        ("ingress", None, None),
        ("watch", None, Some("monitoring")),
        ("kube-system", None, None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut labels = std::collections::BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]);
        labels.extend(tenant.map(|tenant| ("freehold.dev/tenant".to_owned(), tenant.to_owned())));
        labels.extend(role.map(|role| ("role".to_owned(), role.to_owned())));
        view.namespaces.insert(name.to_owned(), Namespace { labels, tenancy: Tenancy::Free });
        for (offset, app) in [("app", "prometheus"), ("k8s-app", "kube-dns"), ("app", "web")].into_iter().enumerate() {
            let pod = Pod {
                labels: [(app.0.to_owned(), app.1.to_owned())].into(),
                addresses: [std::net::IpAddr::from([10, 244, u8::try_from(index).unwrap(), u8::try_from(offset).unwrap()])]
                    .into(),
                local: name == "a-dev",
                ports: [NamedPort { name: "web".to_owned(), protocol: Protocol::Tcp, port: 80 }].into(),
            };
            view.pods.insert(Key { namespace: name.to_owned(), name: format!("pod-{offset}") }, pod);
        }
    }
    view
}

/// All flows between the tenant's pods and anyone, at ports that matter.
fn flows(view: &View, direction: Direction) -> Vec<Flow> {
    let all = view.pods.values().flat_map(|pod| pod.addresses.iter().copied());
    let others: Vec<_> = all.chain(["192.0.2.1", "192.0.2.200", "169.254.169.254"].map(|text| text.parse().unwrap())).collect();
    let own = view.pods.values().filter(|pod| pod.local).flat_map(|pod| pod.addresses.iter().copied());
    let mut flows = Vec::new();
    for own in own {
        for other in others.iter().copied().filter(|other| *other != own) {
            let (source, destination) = if direction == Direction::Out { (own, other) } else { (other, own) };
            for (protocol, port) in
                [(Protocol::Tcp, 80), (Protocol::Tcp, 82), (Protocol::Tcp, 443), (Protocol::Udp, 53), (Protocol::Tcp, 9)]
            {
                flows.push(Flow { source, destination, protocol, port, target: Target::Beyond });
            }
        }
    }
    flows
}

/// Whatever a policy opens in the direction, with the other direction left open, passes the fence too.
fn check(rules: Vec<Value>, direction: Direction) -> Result<(), TestCaseError> {
    let (key, kind) = if direction == Direction::Out { ("egress", "Egress") } else { ("ingress", "Ingress") };
    let document = policy(json!({"podSelector": {}, "policyTypes": [kind], key: rules}));
    if !judge(None, document.spec.as_ref().unwrap(), "a", "a-dev", &network()).is_empty() {
        return Ok(());
    }
    let (mut opened, mut fenced) = (world(), world());
    let own = Key { namespace: "a-dev".to_owned(), name: "own".to_owned() };
    opened.policies.insert(own, convert::policy(&document, "a-dev"));
    let everyone = vec![Rule::default()];
    let whole = fence("a", "a-dev", &network(), &Cluster::default());
    let tenancy = match direction {
        Direction::Out => Fence { ingress: everyone, ..whole },
        Direction::In => Fence { egress: everyone, ..whole },
    };
    // Own pods are judged on both sides, so the fence's other side is left open like the policy's.
    for (name, namespace) in &mut fenced.namespaces {
        if name == "a-dev" {
            namespace.tenancy = Tenancy::Fenced(tenancy.clone());
        }
    }
    for flow in flows(&opened, direction) {
        prop_assert!(!allows(&opened, &flow) || allows(&fenced, &flow), "{flow:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn what_is_admitted_on_the_way_in_passes_the_fence(rules in prop::collection::vec(rule("from"), 1..3)) {
        check(rules, Direction::In)?;
    }

    #[test]
    fn what_is_admitted_on_the_way_out_passes_the_fence(rules in prop::collection::vec(rule("to"), 1..3)) {
        check(rules, Direction::Out)?;
    }
}
