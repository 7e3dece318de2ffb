//! An AdmissionReview from anybody: it is answered, by the same uid, within the bounds, and what was completed is admitted.

use std::sync::LazyLock;

use freehold_crds::BoundarySpec;
use freehold_policy::Phase;
use freehold_policy::cases::{self, Case};
use freehold_policy::namespaces::{ADOPT, BELONG, OWN, Question, ROAM};
use freehold_webhook::decide::{Bounds, Found, Need, RequesterAnswers, decide, need};
use freehold_webhook::review::{Answer, MAX_MESSAGE_CHARACTERS, MAX_REVIEW_BYTES, Review, read};
use serde_json::{Value, json};

/// Longest answer to a short question, in bytes: the message, the warnings, and a patch of short words.
const MAX_WORDS: usize = 64 * 1024;
/// How many times the question an answer may be beyond that: a patch can say a map of the object again, in base64.
const MAX_TIMES: usize = 2;

/// The Boundaries of the table of cases, and the one that says nothing.
static BOUNDARIES: LazyLock<Vec<BoundarySpec>> = LazyLock::new(|| {
    let of_cases = cases::presets().into_iter().map(|preset| serde_json::from_value(preset.boundary).expect("a Boundary's spec"));
    std::iter::once(BoundarySpec::default()).chain(of_cases).collect()
});

/// Every answer that the webhook could give to these bytes.
pub fn review(bytes: &[u8]) {
    if bytes.len() as u64 > MAX_REVIEW_BYTES {
        return;
    }
    let review = match read(bytes) {
        Ok(review) => review,
        Err(unreadable) => {
            encoded(&Answer::refuse("unreadable", 400, unreadable.to_string()), &unreadable.uid, bytes.len());
            return;
        }
    };
    for found in findings(&need(&review)) {
        let completed = decide(Phase::Complete, &review, found.clone());
        encoded(&completed, &review.uid, bytes.len());
        encoded(&decide(Phase::Judge, &review, found.clone()), &review.uid, bytes.len());
        if completed.allowed {
            completes(bytes, &completed, found);
        }
    }
}

/// What could be found for a need.
fn findings(need: &Need) -> Vec<Found> {
    match need {
        Need::Nothing => vec![Found::Nothing],
        Need::Boundary(_) => {
            let found = BOUNDARIES.iter().map(|spec| Bounds::Found(Box::new(spec.clone())));
            let others = [Bounds::Free, Bounds::Missing { tenant: cases::TENANT.to_owned() }];
            found.chain(others).map(Found::Bounds).collect()
        }
        Need::Requester { questions, .. } => {
            let owner = [BELONG, ROAM, ADOPT].map(|verb| Question { verb, tenant: None });
            let own = Question { verb: OWN, tenant: Some(cases::TENANT.to_owned()) };
            let says = |allowed: Vec<Question>, owned: &[&str]| {
                let owned = owned.iter().map(|name| (*name).to_owned()).collect();
                Found::Requester(Ok(RequesterAnswers { allowed: allowed.into_iter().collect(), owned, rules: None }))
            };
            vec![
                says(Vec::new(), &[]),
                says(vec![owner[0].clone(), own], &[cases::TENANT]),
                says(owner.to_vec(), &[]),
                says(questions.iter().cloned().collect(), &["a", "b"]),
                Found::Requester(Err("nobody answered".to_owned())),
            ]
        }
    }
}

/// The answer has a JSON form, for this question, of bounded length.
fn encoded(answer: &Answer, uid: &str, asked: usize) {
    let bytes = answer.encode(uid).expect("every answer has a JSON form");
    assert!(bytes.len() <= MAX_WORDS + MAX_TIMES * asked, "{} bytes are answered to {asked}", bytes.len());
    let value: Value = serde_json::from_slice(&bytes).expect("an answer is JSON");
    assert_eq!(value["response"]["uid"], uid, "the answer is to another question");
    assert_eq!(value["response"]["allowed"], answer.allowed);
    assert!(answer.message.chars().count() <= MAX_MESSAGE_CHARACTERS + 1, "a message of {} bytes", answer.message.len());
    assert!(answer.allowed || !answer.message.is_empty(), "a refusal without a reason");
}

/// The patch applies, and the final object is admitted: else we had refused what we made ourselves.
fn completes(bytes: &[u8], completed: &Answer, found: Found) {
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return };
    let Some(object) = value["request"].get_mut("object") else { return };
    // The API server writes both, even empty; a patch that failed on what it never sends would be a refusal.
    if !object["metadata"].is_object() || !object["spec"].is_object() {
        return;
    }
    json_patch::patch(object, &completed.patch).expect("our patch applies to the object it is for");
    let again: Review = read(&serde_json::to_vec(&value).expect("JSON")).expect("what we completed can be read");
    let judged = decide(Phase::Judge, &again, found);
    assert!(judged.allowed, "completed, then refused: {}", judged.message);
}

/// The table's cases as the API server would ask about them, and what is only large.
pub fn seeds() -> Vec<Vec<u8>> {
    cases::all().iter().filter(|case| case.rules).map(asked).chain(large()).collect()
}

/// Within the bound of a review, and as large as that lets it be in one direction each.
fn large() -> Vec<Vec<u8>> {
    let pod = |spec: Value| {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec});
        let resource = json!({"group": "", "version": "v1", "resource": "pods"});
        serde_json::to_vec(&json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {"uid": "1", "resource": resource, "namespace": cases::NAMESPACE, "operation": "CREATE",
                "userInfo": {"username": "alice"}, "object": object},
        }))
        .expect("JSON")
    };
    let privileged = json!({"name": "c", "image": "x", "securityContext": {"privileged": true}});
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    vec![
        pod(json!({"containers": vec![privileged; 10_000]})),
        pod(json!({"containers": [{"name": "c", "image": "\u{202e}\u{0}".repeat(100_000)}]})),
        pod(json!({"nodeSelector": (0..50_000).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>()})),
        // A Value can't be nested so deeply, so the text is put together.
        String::from_utf8_lossy(&pod(json!("deep"))).replace("\"deep\"", &deep).into_bytes(),
    ]
}

fn asked(case: &Case) -> Vec<u8> {
    let (group, version) = case.resource.group_version();
    let operation = if case.old.is_some() { "UPDATE" } else { "CREATE" };
    let review = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5", "resource": {"group": group, "version": version, "resource": case.resource.plural},
            "subResource": case.subresource, "namespace": cases::NAMESPACE, "operation": operation,
            "userInfo": {"username": "alice"}, "object": case.object, "oldObject": case.old,
        }
    });
    serde_json::to_vec(&review).expect("JSON")
}
