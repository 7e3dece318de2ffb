//! The floor's policies, read from the chart and evaluated in process.
//!
//! Variables are put in by text, as they are pure; those that ask the `authorizer` are replaced by the answers of the case.

use std::collections::BTreeMap;
use std::path::Path;

use kube_cel::{VapEvaluator, VapExpression};
use serde::Deserialize as _;
use serde_json::{Value, json};

/// How deep variables may refer to variables.
const VARIABLE_DEPTH: usize = 8;

/// One admission request.
#[derive(Default)]
pub struct Request {
    pub object: Value,
    pub old: Option<Value>,
    pub params: Option<Value>,
    pub username: String,
    pub answers: BTreeMap<&'static str, bool>,
}

/// The evaluator escapes `.`, `/` and `-` in the keys of all maps, as the API server does for field names only. So no text has
/// them: each is another character, one for one, in the objects and in the literals of expressions, which keeps `==`, `in` and `startsWith`.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '.' => '!',
            '/' => '~',
            '-' => '^',
            other => other,
        })
        .collect()
}

fn plain_value(value: &Value) -> Value {
    match value {
        Value::String(text) => plain(text).into(),
        Value::Array(items) => items.iter().map(plain_value).collect(),
        Value::Object(members) => members.iter().map(|(key, value)| (plain(key), plain_value(value))).collect(),
        other => other.clone(),
    }
}

fn plain_literals(expression: &str) -> String {
    let parts = expression.split('\'').enumerate();
    let parts: Vec<String> = parts.map(|(index, part)| if index % 2 == 1 { plain(part) } else { part.to_owned() }).collect();
    parts.join("'")
}

/// The messages of all validations of these policies that refuse the request.
pub fn refusals(policies: &[&str], request: &Request) -> Vec<String> {
    policies.iter().flat_map(|name| refusals_of(&policy(name), request)).collect()
}

fn policy(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../charts/freehold/templates/floor/{name}.yaml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document = serde_yaml::Deserializer::from_str(&text).next().expect("a policy file is not empty");
    let policy = Value::deserialize(document).expect("a policy is plain YAML");
    assert_eq!(policy["kind"], "ValidatingAdmissionPolicy", "{name}");
    policy
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{value} has no {key}"))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn refusals_of(policy: &Value, request: &Request) -> Vec<String> {
    let spec = &policy["spec"];
    let mut variables: Vec<(&str, String)> = items(&spec["variables"])
        .iter()
        .map(|variable| {
            let name = text(variable, "name");
            let answer = request.answers.get(name).map(ToString::to_string);
            (name, answer.unwrap_or_else(|| text(variable, "expression").to_owned()))
        })
        .collect();
    variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let expand = |expression: &str| {
        let mut expression = expression.to_owned();
        for _ in 0..VARIABLE_DEPTH {
            for (name, value) in &variables {
                expression = expression.replace(&format!("variables.{name}"), &format!("({value})"));
            }
        }
        assert!(!expression.contains("variables.") && !expression.contains("authorizer"), "not evaluable: {expression}");
        expression
    };
    let evaluate = |expression: &str| {
        let builder = VapEvaluator::builder().object(plain_value(&request.object)).request(kube_cel::AdmissionRequest {
            operation: if request.old.is_some() { "UPDATE" } else { "CREATE" }.to_owned(),
            username: plain(&request.username),
            ..Default::default()
        });
        let builder = builder.params(request.params.as_ref().map_or(json!(null), plain_value));
        let evaluator = request.old.iter().fold(builder, |builder, old| builder.old_object(plain_value(old))).build();
        let expression =
            VapExpression { expression: plain_literals(&expand(expression)), message: None, message_expression: None };
        let result = evaluator.evaluate(&[expression]).remove(0);
        let failed = result.message.unwrap_or_default();
        assert!(
            result.passed || failed.ends_with("evaluated to false"),
            "an error is no refusal: {failed}: {}",
            result.expression
        );
        result.passed
    };
    if items(&spec["matchConditions"]).iter().any(|condition| !evaluate(text(condition, "expression"))) {
        return Vec::new();
    }
    items(&spec["validations"])
        .iter()
        .filter(|validation| !evaluate(text(validation, "expression")))
        .map(|validation| text(validation, "message").to_owned())
        .collect()
}
