//! Namespaces: one table of cases against the rules.

use freehold_crds::TenantNamespaces;
use freehold_policy::namespaces::{ADOPT, BELONG, NAME, OPERATOR, OWN, Question, ROAM, Requester, check, questions};
use freehold_policy::view::Namespace;
use freehold_policy::{Decision, Phase};
use proptest::prelude::*;
use serde_json::{Value, json};

mod floor;

const TENANT: &str = "metadata.labels[freehold.dev/tenant]";
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// A namespace `n`: `a`, `b` and so on stand for the tenant label, other labels as `key=value`, `@key=value` for annotations.
fn namespace(text: &str) -> Value {
    let tenant = text.split_whitespace().find(|word| !word.contains('='));
    let mut object = json!({"metadata": {"name": format!("{}-n", tenant.unwrap_or("a"))}});
    for word in text.split_whitespace() {
        let (map, word) = word.strip_prefix('@').map_or(("labels", word), |word| ("annotations", word));
        match word.split_once('=') {
            Some(("name", name)) => object["metadata"]["name"] = json!(name),
            Some((key, value)) => object["metadata"][map][key] = json!(value),
            None => object["metadata"][map]["freehold.dev/tenant"] = json!(word),
        }
    }
    object
}

/// `own:a adopt:b belong roam`, and the tenants owned.
fn requester(rights: &str) -> Requester {
    let mut requester = Requester { username: "jane".to_owned(), ..Requester::default() };
    for right in rights.split_whitespace() {
        let (verb, tenant) = right.split_once(':').map_or((right, None), |(verb, tenant)| (verb, Some(tenant.to_owned())));
        let verb = match verb {
            "own" => OWN,
            "adopt" => ADOPT,
            "belong" => BELONG,
            "roam" => ROAM,
            "name" => NAME,
            _ => panic!("no such verb {verb}"),
        };
        requester.owned.extend(tenant.clone().filter(|_| verb == OWN));
        requester.allowed.insert(Question { verb, tenant });
    }
    requester
}

/// The decision; the floor must refuse exactly what the validating call refuses.
fn judge(phase: Phase, requester: &Requester, old: Option<&Value>, new: &Value) -> Decision {
    let decode = |value: &Value| serde_json::from_value::<Namespace>(value.clone()).expect("the case is no Namespace");
    let (before, after) = (old.map(decode), decode(new));
    let asked = questions(before.as_ref(), &after);
    assert!(asked.len() <= 4 && asked.iter().all(|question| question.tenant.as_deref() != Some("")));
    let known = Requester { allowed: requester.allowed.intersection(&asked).cloned().collect(), ..requester.clone() };
    let decision = check(phase, &known, before.as_ref(), &after);
    let judged = check(Phase::Judge, &known, before.as_ref(), &after);
    let tenant = |namespace: Option<&Namespace>| namespace.and_then(|n| n.metadata.labels.get("freehold.dev/tenant").cloned());
    let may = |verb, tenant: Option<String>| requester.allowed.contains(&Question { verb, tenant });
    let (left, joined) = (tenant(before.as_ref()), tenant(Some(&after)));
    let answers = [
        ("mayOwnNew", may(OWN, joined.clone())),
        ("mayNameNew", may(NAME, joined.clone())),
        ("mayAdoptOld", may(ADOPT, left)),
        ("mayAdoptNew", may(ADOPT, joined)),
        ("belongs", may(BELONG, None)),
        ("roams", may(ROAM, None)),
    ];
    let refused = floor::refusals(&floor::Request {
        group: String::new(),
        resource: "namespaces".to_owned(),
        subresource: String::new(),
        namespace: String::new(),
        old: old.cloned(),
        object: new.clone(),
        username: requester.username.clone(),
        answers: answers.iter().filter(|(_, yes)| *yes).map(|(name, _)| (*name).to_owned()).collect(),
        params: None,
    });
    assert_eq!(
        judged.admitted(),
        refused.is_empty(),
        "rules and floor differ: {old:?} -> {new}: {} / {refused:?}",
        judged.message()
    );
    decision
}

/// Name, rights, labels before and after, fields refused.
type Belonging<'a> = (&'a str, &'a str, Option<&'a str>, &'a str, &'a [&'a str]);

#[test]
fn belonging() {
    let create: Option<&str> = None;
    let cases: Vec<Belonging> = vec![
        ("an owner's", "own:a belong", create, "a", &[]),
        ("another tenant's label", "own:a belong", create, "b", &[TENANT]),
        ("an empty label", "own:a belong", create, "freehold.dev/tenant=", &[TENANT]),
        ("an owner of two says nothing", "own:a own:b belong", create, "", &[TENANT]),
        ("a foreign controller", "", create, "", &[]),
        ("a foreign controller with a label", "", create, "a", &[TENANT]),
        ("an administrator", "own:a belong roam", create, "", &[]),
        ("a system name", "own:a name:a belong", create, "a name=kube-x", &["metadata.name"]),
        ("named after the tenant", "own:a belong", create, "a name=a", &[]),
        ("named like nothing of the tenant's", "own:a belong", create, "a name=metrics", &["metadata.name"]),
        ("named like a tenant whose name begins the same", "own:a belong", create, "a name=ab-c", &["metadata.name"]),
        ("named freely where that is allowed", "own:a name:a belong", create, "a name=metrics", &[]),
        ("named freely by the platform team", "own:a adopt:a", create, "a name=metrics", &[]),
        ("our own namespace", "own:a adopt:a", create, "a name=freehold-system", &["metadata.name"]),
        ("unchanged", "", Some("a"), "a x=y", &[]),
        ("foreign unchanged", "", Some(""), "x=y", &[]),
        ("taken in by an owner", "own:a belong", Some(""), "a", &[TENANT]),
        ("taken in by the platform team", "adopt:a", Some(""), "a", &[]),
        ("a system one, by the platform team", "adopt:a", Some("name=kube-system"), "a name=kube-system", &["metadata.name"]),
        ("released by an owner", "own:a belong", Some("a"), "", &[TENANT]),
        ("released by the platform team", "adopt:a", Some("a"), "", &[]),
        ("moved with one half", "adopt:a own:b", Some("a"), "b", &[TENANT]),
        ("moved with the other half", "own:a adopt:b", Some("a"), "b", &[TENANT]),
        ("moved", "adopt:a adopt:b", Some("a"), "b", &[]),
        ("emptied by the platform team", "adopt:a", Some("a"), "freehold.dev/tenant=", &[TENANT]),
        ("of an update, own is not enough", "own:b", Some("a"), "b", &[TENANT]),
    ];
    for (name, rights, old, new, expect) in cases {
        let old = old.map(namespace);
        let decision = judge(Phase::Judge, &requester(rights), old.as_ref(), &namespace(new));
        let fields: Vec<_> = decision.denials.iter().map(|denial| denial.field.as_str()).collect();
        assert_eq!(fields, expect, "{name}");
    }
}

#[test]
fn what_is_guarded() {
    let enforce = format!("metadata.labels[{ENFORCE}]");
    let level = |level: &str| format!("a {ENFORCE}={level}");
    let version = |version: &str| format!("a {ENFORCE}-version={version}");
    let version_field = enforce.replace(']', "-version]");
    let admin = "metadata.labels[resource.kubernetes.io/admin-access]";
    let selector = "scheduler.alpha.kubernetes.io/node-selector";
    let cases: Vec<(&str, Option<String>, String, Option<&str>)> = vec![
        ("baseline to restricted", Some(level("baseline")), level("restricted"), None),
        ("restricted to baseline", Some(level("restricted")), level("baseline"), Some(&enforce)),
        ("baseline to privileged", Some(level("baseline")), level("privileged"), Some(&enforce)),
        ("baseline to nothing", Some(level("baseline")), "a".into(), Some(&enforce)),
        ("nothing to privileged", Some("a".into()), level("privileged"), Some(&enforce)),
        ("privileged stays", Some(level("privileged")), format!("{} x=y", level("privileged")), None),
        ("privileged to nothing", Some(level("privileged")), "a".into(), None),
        ("created privileged", None, level("privileged"), Some(&enforce)),
        ("created restricted", None, level("restricted"), None),
        ("created with an old version", None, version("v1.0"), Some(&version_field)),
        ("created with the latest version", None, version("latest"), None),
        ("an older version", Some(version("latest")), version("v1.0"), Some(&version_field)),
        ("no version", Some(version("v1.30")), "a".into(), None),
        ("admin access", Some("a".into()), "a resource.kubernetes.io/admin-access=true".into(), Some(admin)),
        ("created with admin access", None, "a resource.kubernetes.io/admin-access=true".into(), Some(admin)),
        (
            "passed over by a webhook",
            Some("a".into()),
            "a admission.gatekeeper.sh/ignore=yes".into(),
            Some("metadata.labels[admission.gatekeeper.sh/ignore]"),
        ),
        (
            "no more passed over",
            Some("a cert-manager.io/disable-validation=true".into()),
            "a".into(),
            Some("metadata.labels[cert-manager.io/disable-validation]"),
        ),
        ("our other labels", Some("a".into()), "a freehold.dev/x=y".into(), Some("metadata.labels[freehold.dev/x]")),
        ("our other labels removed", Some("a freehold.dev/x=y".into()), "a".into(), Some("metadata.labels[freehold.dev/x]")),
        (
            "node selector",
            Some("a".into()),
            format!("a @{selector}=x=y"),
            Some("metadata.annotations[scheduler.alpha.kubernetes.io/node-selector]"),
        ),
        ("other annotations", Some("a @x=y".into()), "a @x=z".into(), None),
    ];
    for (name, old, new, expect) in cases {
        let old = old.as_deref().map(namespace);
        let (new, owner) = (namespace(&new), requester("own:a belong"));
        let decision = judge(Phase::Judge, &owner, old.as_ref(), &new);
        let fields: Vec<_> = decision.denials.iter().map(|denial| denial.field.as_str()).collect();
        assert_eq!(fields, expect.into_iter().collect::<Vec<_>>(), "{name}");
        assert!(judge(Phase::Judge, &requester("own:a adopt:a"), old.as_ref(), &new).admitted(), "{name}: platform team");
        let operator = Requester { username: OPERATOR.to_owned(), ..owner };
        assert!(judge(Phase::Judge, &operator, old.as_ref(), &new).admitted(), "{name}: operator");
    }
}

/// The floor alone judges subresources.
#[test]
fn a_namespace_is_released_by_the_system() {
    let controller = "system:serviceaccount:kube-system:namespace-controller";
    for (who, answers, was, refused) in [
        ("alice", vec!["belongs"], "a", true),
        ("alice", vec![], "a", true),
        ("alice", vec!["mayAdoptOld"], "a", false),
        ("root", vec!["belongs", "roams"], "a", false),
        (controller, vec![], "a", false),
        ("alice", vec!["belongs"], "", false),
    ] {
        let found = floor::refusals(&floor::Request {
            group: String::new(),
            resource: "namespaces".to_owned(),
            subresource: "finalize".to_owned(),
            namespace: String::new(),
            old: Some(namespace(was)),
            object: namespace(was),
            params: None,
            username: who.to_owned(),
            answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
        });
        assert_eq!(!found.is_empty(), refused, "{who} with {answers:?} of {was:?}: {found:?}");
    }
}

#[test]
fn the_only_tenant_is_filled_in() {
    for text in ["", "x=y"] {
        let mut object = namespace(text);
        let owner = requester("own:a belong");
        let decision = judge(Phase::Complete, &owner, None, &object);
        assert!(decision.admitted());
        json_patch::patch(&mut object, &decision.patch).expect("the patch applies");
        assert_eq!(object, namespace(&format!("{text} a")));
        assert!(judge(Phase::Judge, &owner, None, &object).admitted());
    }
    let decision = judge(Phase::Complete, &requester("own:a belong"), None, &namespace("name=kube-x"));
    assert!(!decision.admitted() && decision.patch.0.is_empty());
}

/// Name, namespaces that the tenant has, labels before and after, fields refused.
type Ruled<'a> = (&'a str, usize, Option<&'a str>, &'a str, &'a [&'a str]);

/// What a Tenant says of its namespaces; the floor does not hold it.
#[test]
fn labels_annotations_and_number() {
    let rules = json!({
        "max": 2, "labels": {"managed": {"team": "pay"}, "required": [{"key": "env", "values": ["dev", "prod"]}], "forbidden": ["policy.example/*"]},
        "annotations": {"forbidden": ["example.com/exempt"]},
    });
    let cases: &[Ruled] = &[
        ("all is well", 1, None, "a team=pay env=dev", &[]),
        ("one too many", 2, None, "a team=pay env=dev", &[TENANT]),
        ("another managed value", 0, None, "a team=other env=dev", &["metadata.labels[team]"]),
        ("no managed value", 0, None, "a env=dev", &["metadata.labels[team]"]),
        ("a required label is missing", 0, None, "a team=pay", &["metadata.labels[env]"]),
        ("a required label of another value", 0, None, "a team=pay env=test", &["metadata.labels[env]"]),
        ("older than the rule", 9, Some("a team=pay"), "a team=pay x=y", &[]),
        ("a required label taken away", 9, Some("a team=pay env=dev"), "a team=pay", &["metadata.labels[env]"]),
        ("a forbidden label", 0, None, "a team=pay env=dev policy.example/Skip=1", &["metadata.labels[policy.example/Skip]"]),
        ("a forbidden label as it was", 0, Some("a policy.example/skip=1"), "a team=pay policy.example/skip=1", &[]),
        (
            "a forbidden annotation by case",
            0,
            Some("a team=pay"),
            "a team=pay @example.com/Exempt=1",
            &["metadata.annotations[example.com/Exempt]"],
        ),
    ];
    for (name, existing, old, new, expect) in cases {
        let said = serde_json::from_value(rules.clone()).unwrap();
        let requester = Requester {
            rules: Some(freehold_policy::namespace_rules::Rules { said, existing: *existing, ..Default::default() }),
            ..requester("own:a belong")
        };
        let decode = |text: &str| serde_json::from_value::<Namespace>(namespace(text)).unwrap();
        let (old, new) = (old.map(decode), decode(new));
        let decision = check(Phase::Judge, &requester, old.as_ref(), &new);
        let fields: Vec<_> = decision.denials.iter().map(|denial| denial.field.as_str()).collect();
        assert_eq!(fields, *expect, "{name}");
        let trusted = Requester { allowed: [Question { verb: ADOPT, tenant: Some("a".to_owned()) }].into(), ..requester };
        assert!(
            check(Phase::Judge, &trusted, old.as_ref(), &new).denials.iter().all(|denial| denial.rule == "tenant label"),
            "{name}: platform team"
        );
    }
    let said = serde_json::from_value(json!({"labels": {"managed": {"team": "pay"}}})).unwrap();
    for text in ["", "x=y", "a"] {
        let mut object = namespace(text);
        let owner = Requester {
            rules: Some(freehold_policy::namespace_rules::Rules { said: TenantNamespaces::clone(&said), ..Default::default() }),
            ..requester("own:a belong")
        };
        let decision = check(Phase::Complete, &owner, None, &serde_json::from_value(object.clone()).unwrap());
        assert!(decision.admitted(), "{}", decision.message());
        json_patch::patch(&mut object, &decision.patch).expect("the patch applies");
        assert_eq!(object["metadata"]["labels"]["team"], "pay", "{text}");
        assert_eq!(object["metadata"]["labels"]["freehold.dev/tenant"], "a", "{text}");
    }
}

#[test]
fn metadata_is_bounded() {
    let many = |map: &str, count: usize| (0..count).map(|n| format!(" {map}k{n}=v")).collect::<String>();
    let long = |length: usize| format!(" @long={}", "x".repeat(length));
    let cases: Vec<(&str, Option<String>, String, &[&str])> = vec![
        ("as many labels as may be", None, many("", 63), &[]),
        ("one label more", None, many("", 64), &["metadata.labels"]),
        ("more than there were", Some(many("", 70)), many("", 71), &["metadata.labels"]),
        ("fewer than there were", Some(many("", 71)), many("", 70), &[]),
        ("as many annotations as may be", None, many("@", 32), &[]),
        ("one annotation more", None, many("@", 33), &["metadata.annotations"]),
        ("an annotation as long as may be", None, long(4096), &[]),
        ("a longer one", None, long(4097), &["metadata.annotations[long]"]),
        ("a long one as it was", Some(long(5000)), format!("{} x=y", long(5000)), &[]),
    ];
    for (name, old, new, expect) in cases {
        let of = |text: &str| namespace(&format!("a{text}"));
        let decision = judge(Phase::Judge, &requester("own:a belong"), old.as_deref().map(of).as_ref(), &of(&new));
        let fields: Vec<_> = decision.denials.iter().map(|denial| denial.field.as_str()).collect();
        assert_eq!(fields, expect, "{name}");
    }
}

/// Names that are somebody else's: where another Tenant's programs live, or of a Tenant whose name goes on from one's own.
#[test]
fn names_that_are_spoken_for() {
    let spec = |rest: Value| serde_json::from_value::<freehold_crds::TenantSpec>(rest).unwrap();
    let alice = json!({"kind": "User", "name": "alice"});
    let tenants = [
        ("team", spec(json!({"owners": [alice, {"kind": "ServiceAccount", "name": "ci", "namespace": "team-ci"}]}))),
        ("team-a", spec(json!({"owners": [alice]}))),
        (
            "zeta",
            spec(json!({"owners": [{"kind": "ServiceAccount", "name": "ci", "namespace": "platform-ci"}], "roleBindings": [
                {"name": "m", "clusterRoleName": "view", "subjects": [{"kind": "ServiceAccount", "name": "p", "namespace": "monitoring"}]},
                {"name": "n", "clusterRoleName": "view", "subjects": [{"kind": "Group", "name": "sre"}]},
            ]})),
        ),
    ];
    for (tenant, name, expect) in [
        ("team", "team", false),
        ("team", "team-b", false),
        ("team", "team-ci", false),
        ("team", "team-a", true),
        ("team", "team-a-dev", true),
        ("team", "team-ab", false),
        ("team-a", "team-a-dev", false),
        ("team-a", "team-ci", true),
        ("team", "platform-ci", true),
        ("team", "monitoring", true),
        ("zeta", "platform-ci", false),
        ("zeta", "team-a-dev", false),
    ] {
        let known = tenants.iter().map(|(name, spec)| (*name, spec));
        assert_eq!(freehold_policy::namespace_rules::is_spoken_for(tenant, name, known), expect, "{tenant}: {name}");
    }
    let cordoned = freehold_policy::namespace_rules::Rules { cordoned: true, ..Default::default() };
    let asks = Requester { rules: Some(cordoned), ..requester("own:a belong") };
    let decision = check(Phase::Judge, &asks, None, &serde_json::from_value(namespace("a")).unwrap());
    assert_eq!(decision.denials.iter().map(|denial| denial.rule).collect::<Vec<_>>(), ["tenant state"]);
    let taken = freehold_policy::namespace_rules::Rules { spoken_for: true, ..Default::default() };
    let requester = Requester { rules: Some(taken), ..requester("own:a name:a belong") };
    let new: Namespace = serde_json::from_value(namespace("a name=platform-ci")).unwrap();
    let decision = check(Phase::Judge, &requester, None, &new);
    assert_eq!(decision.denials.iter().map(|denial| denial.field.as_str()).collect::<Vec<_>>(), ["metadata.name"]);
    assert!(!decision.message().contains("zeta"), "{}", decision.message());
    assert!(check(Phase::Judge, &requester, Some(&new), &new).admitted(), "one that is there already");
}

#[test]
fn a_message_names_no_other_tenant() {
    let decision = judge(Phase::Judge, &requester("own:a belong"), Some(&namespace("secret")), &namespace("a"));
    assert!(!decision.admitted() && !decision.message().contains("secret"), "{}", decision.message());
    let decision = judge(Phase::Judge, &requester("own:a own:c belong"), None, &namespace(""));
    assert!(decision.message().ends_with("say which: a, c"), "{}", decision.message());
}

proptest! {
    // Each case parses the whole policy; there are 48 different ones.
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever an owner of `a` without further rights does to labels, the namespace of another tenant stays it and no existing one becomes theirs.
    #[test]
    fn owners_never_take_nor_lose(old in r"(|a|b|freehold\.dev/tenant=)", new in r"(|a|b|freehold\.dev/tenant=)", level in 0usize..3) {
        let label = ["", " pod-security.kubernetes.io/enforce=baseline", " pod-security.kubernetes.io/enforce=restricted"][level];
        let (before, after) = (namespace(&old), namespace(&format!("{new}{label}")));
        let decision = judge(Phase::Complete, &requester("own:a belong"), Some(&before), &after);
        if old != new && !(old.contains('=') && new.is_empty()) {
            prop_assert!(!decision.admitted());
        }
    }
}
