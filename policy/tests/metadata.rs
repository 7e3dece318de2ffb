//! Labels and annotations of objects of chosen kinds, as a Tenant says them.

use freehold_crds::BoundarySpec;
use freehold_policy::objects::{self, Object, Writer};
use freehold_policy::{Decision, Phase, pods};
use serde_json::{Value, json};

fn boundary(mode: &str) -> BoundarySpec {
    let mut boundary = BoundarySpec { enforcement_mode: serde_json::from_value(json!(mode)).unwrap(), ..BoundarySpec::default() };
    boundary.pods.runtime_class_names.allowed = vec!["m".to_owned()];
    boundary.objects = serde_json::from_value(json!([
        {"kinds": ["Pod", "Service", "Deployment"], "labels": {"managed": {"team": "pay", "tier": "1"}, "forbidden": ["policy.example/*"]}},
        {"kinds": ["Service"], "labels": {"required": [{"key": "env", "values": ["dev", "prod"]}]}, "annotations": {"forbidden": ["example.com/exempt"]}},
    ]))
    .unwrap();
    boundary
}

fn object(kind: &str, metadata: Value) -> Value {
    let spec = match kind {
        "Pod" => json!({"runtimeClassName": "m", "containers": [{"name": "c"}]}),
        "Deployment" => json!({"template": {"spec": {"containers": [{"name": "c"}]}}}),
        _ => json!({}),
    };
    json!({"metadata": metadata, "spec": spec})
}

fn decide(boundary: &BoundarySpec, phase: Phase, kind: &str, old: Option<&Value>, new: &Value) -> Decision {
    if kind == "Pod" {
        let read = |value: &Value| serde_json::from_value(value.clone()).unwrap();
        return pods::check(boundary, "a", phase, old.map(read).as_ref(), &read(new));
    }
    let read = |value: &Value| Object::read(kind, &value.to_string()).unwrap();
    objects::check(boundary, "a", phase, Writer::Tenant, old.map(read).as_ref(), &read(new))
}

#[test]
fn what_kinds_carry() {
    let all = json!({"labels": {"team": "pay", "tier": "1", "env": "dev"}});
    for (what, kind, old, new, refused) in [
        ("all is there", "Service", None, all.clone(), vec![]),
        (
            "a required label is missing",
            "Service",
            None,
            json!({"labels": {"team": "pay", "tier": "1"}}),
            vec!["metadata.labels[env]"],
        ),
        (
            "of another value",
            "Service",
            None,
            json!({"labels": {"team": "pay", "tier": "1", "env": "x"}}),
            vec!["metadata.labels[env]"],
        ),
        (
            "older than the rule",
            "Service",
            Some(json!({"labels": {"team": "pay", "tier": "1"}})),
            json!({"labels": {"team": "pay", "tier": "1", "x": "y"}}),
            vec![],
        ),
        (
            "taken away",
            "Service",
            Some(all.clone()),
            json!({"labels": {"team": "pay", "tier": "1"}}),
            vec!["metadata.labels[env]"],
        ),
        (
            "another managed value",
            "Deployment",
            None,
            json!({"labels": {"team": "other", "tier": "1"}}),
            vec!["metadata.labels[team]"],
        ),
        ("no rule for the kind", "CronJob", None, json!({}), vec![]),
        (
            "a forbidden label by case",
            "Pod",
            None,
            json!({"labels": {"team": "pay", "tier": "1", "Policy.example/x": "1"}}),
            vec!["metadata.labels[Policy.example/x]"],
        ),
        (
            "a forbidden annotation",
            "Service",
            None,
            json!({"labels": all["labels"], "annotations": {"example.com/exempt": "1"}}),
            vec!["metadata.annotations[example.com/exempt]"],
        ),
        (
            "another managed value on a pod that is there",
            "Pod",
            Some(json!({"labels": {"team": "pay", "tier": "1"}})),
            json!({"labels": {"team": "x", "tier": "1"}}),
            vec!["metadata.labels[team]"],
        ),
        (
            "a pod older than the rule loses a finalizer",
            "Pod",
            Some(json!({"labels": {"team": "x"}})),
            json!({"labels": {"team": "x"}}),
            Vec::new(),
        ),
    ] {
        let (old, new) = (old.map(|old| object(kind, old)), object(kind, new));
        let decision = decide(&boundary("Enforce"), Phase::Judge, kind, old.as_ref(), &new);
        let fields: Vec<_> = decision.denials.iter().map(|denial| denial.field.as_str()).collect();
        assert_eq!(fields, refused, "{what}");
        let looking = decide(&boundary("Warn"), Phase::Judge, kind, old.as_ref(), &new);
        // Of a workload its template is observed too.
        let observed = looking.observed.iter().map(|denial| denial.field.as_str()).filter(|field| field.starts_with("metadata."));
        assert!(looking.admitted(), "{what}, while looking");
        assert_eq!(observed.collect::<Vec<_>>(), refused, "{what}, while looking");
    }
}

#[test]
fn managed_labels_are_filled_in() {
    for kind in ["Pod", "Service", "Deployment"] {
        for labels in [json!({"env": "dev"}), json!({"env": "dev", "team": "pay"})] {
            let mut new = object(kind, json!({"labels": labels}));
            let decision = decide(&boundary("Enforce"), Phase::Complete, kind, None, &new);
            assert!(decision.admitted(), "{kind}: {}", decision.message());
            json_patch::patch(&mut new, &decision.patch).expect("the patch applies");
            assert_eq!(new["metadata"]["labels"], json!({"env": "dev", "team": "pay", "tier": "1"}), "{kind}");
        }
    }
    let mut bare = object("Pod", json!({}));
    let decision = decide(&boundary("Enforce"), Phase::Complete, "Pod", None, &bare);
    json_patch::patch(&mut bare, &decision.patch).expect("the patch applies where there are no labels");
    assert_eq!(bare["metadata"]["labels"], json!({"team": "pay", "tier": "1"}));
    assert!(
        decide(&boundary("Warn"), Phase::Complete, "Pod", None, &bare).patch.0.is_empty(),
        "nothing is filled in while looking"
    );
}
