//! The floor's policies, read from the chart and evaluated in process.
//!
//! Which policies match a request is read from their own rules, so that one that forgets a subresource is seen to. Variables that ask
//! the `authorizer` are replaced by the answers of the case. A variable that can't be evaluated is left out, so that whoever uses
//! it fails, as with the lazy evaluation of the API server.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use kube_cel::KubeCelExt as _;
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, ExecutionError, Program, Value as Cel};
use serde::Deserialize as _;
use serde_json::{Value, json};

/// One admission request, in a tenant's namespace if it is namespaced.
pub struct Request {
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub object: Value,
    pub old: Option<Value>,
    pub params: Option<Value>,
    pub username: String,
    pub answers: Vec<String>,
}

/// What the chart's templates are filled with here.
const VALUES: &[(&str, &str)] = &[
    ("{{ toJson ((.Values.breakGlass).users | default list) }}", r#"["restorer"]"#),
    (r#"{{ include "freehold.image" (dict "root" . "name" "network-enforcer") }}"#, r#""registry.example/network-enforcer:1""#),
    ("{{ toJson ((.Values.breakGlass).groups | default list) }}", r#"["oidc:emergency"]"#),
    ("{{- if or (.Values.breakGlass).users (.Values.breakGlass).groups }}", ""),
    ("{{- end }}", ""),
];

/// The messages of all validations of all policies that refuse the request.
pub fn refusals(request: &Request) -> Vec<String> {
    policies().iter().filter(|policy| matches(policy, request)).flat_map(|policy| refusals_of(policy, request)).collect()
}

fn policies() -> &'static [Value] {
    static POLICIES: OnceLock<Vec<Value>> = OnceLock::new();
    POLICIES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/freehold/templates/floor");
        let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
            .iter()
            .filter_map(|path| {
                let text = std::fs::read_to_string(path).unwrap();
                let text = VALUES.iter().fold(text, |text, (value, said)| text.replace(value, said));
                let documents: Vec<_> = serde_yaml::Deserializer::from_str(&text)
                    .map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
                    .collect();
                let (policy, bindings) = documents.split_first().expect("a policy file is not empty");
                assert_eq!(policy["kind"], "ValidatingAdmissionPolicy", "{}", path.display());
                let refuses = |binding: &Value| items(&binding["spec"]["validationActions"]).contains(&json!("Deny"));
                bindings.iter().any(refuses).then(|| policy.clone())
            })
            .collect()
    })
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{value} has no {key}"))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn matches(policy: &Value, request: &Request) -> bool {
    let named = if request.subresource.is_empty() {
        request.resource.clone()
    } else {
        format!("{}/{}", request.resource, request.subresource)
    };
    let operation = if request.old.is_some() { "UPDATE" } else { "CREATE" };
    let has = |list: &Value, name: &str| {
        let subresource = name.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        let any = |one: &str| one == "*/*" || (one == "*" && subresource.is_none()) || subresource.as_deref() == Some(one);
        items(list).iter().filter_map(Value::as_str).any(|one| one == name || any(one))
    };
    let scope = if request.namespace.is_empty() { "Cluster" } else { "Namespaced" };
    let fits = |rule: &Value| {
        has(&rule["apiGroups"], &request.group)
            && has(&rule["resources"], &named)
            && has(&rule["operations"], operation)
            && [scope, "*"].contains(&rule["scope"].as_str().unwrap_or("*"))
    };
    let constraints = &policy["spec"]["matchConstraints"];
    items(&constraints["resourceRules"]).iter().any(fits) && !items(&constraints["excludeResourceRules"]).iter().any(fits)
}

fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(one) => Cel::Bool(*one),
        Value::Number(number) => number.as_i64().map_or_else(|| Cel::Float(number.as_f64().unwrap_or(f64::NAN)), Cel::Int),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(members) => {
            let mut map = HashMap::new();
            for (key, value) in members {
                map.insert(Key::String(Arc::new(key.clone())), to_cel(value));
            }
            Cel::Map(Map { map: Arc::new(map) })
        }
    }
}

thread_local! {
    static PROGRAMS: RefCell<HashMap<String, Rc<Program>>> = RefCell::default();
}

fn program(expression: &str) -> Rc<Program> {
    PROGRAMS.with_borrow_mut(|programs| {
        let compile = || Rc::new(Program::compile(expression).unwrap_or_else(|error| panic!("{error}: {expression}")));
        programs.entry(expression.to_owned()).or_insert_with(compile).clone()
    })
}

fn nothing_absent(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), nothing_absent(value)))
            .collect(),
        Value::Array(items) => items.iter().map(nothing_absent).collect(),
        other => other.clone(),
    }
}

fn refusals_of(policy: &Value, request: &Request) -> Vec<String> {
    let spec = &policy["spec"];
    let mut context = Context::default().with_all();
    context.add_function("dyn", |value: Cel| -> Result<Cel, ExecutionError> { Ok(value) });
    context.add_variable_from_value("object", to_cel(&nothing_absent(&request.object)));
    context.add_variable_from_value("oldObject", request.old.as_ref().map_or(Cel::Null, |old| to_cel(&nothing_absent(old))));
    context
        .add_variable_from_value("params", request.params.as_ref().map_or(Cel::Null, |params| to_cel(&nothing_absent(params))));
    let labels = json!({"freehold.dev/tenant": "team-a"});
    context
        .add_variable_from_value("namespaceObject", to_cel(&json!({"metadata": {"name": request.namespace, "labels": labels}})));
    let groups = json!(["system:authenticated"]);
    context.add_variable_from_value(
        "request",
        to_cel(&json!({
            "operation": if request.old.is_some() { "UPDATE" } else { "CREATE" }, "namespace": request.namespace,
            "subResource": request.subresource, "userInfo": {"username": request.username, "groups": groups},
            "resource": {"group": request.group, "version": "v1", "resource": request.resource},
        })),
    );
    let mut variables: HashMap<Key, Cel> = HashMap::new();
    context.add_variable_from_value("variables", Cel::Map(Map { map: Arc::new(HashMap::new()) }));
    for variable in items(&spec["variables"]) {
        let (name, expression) = (text(variable, "name"), text(variable, "expression"));
        let value = if expression.contains("authorizer") {
            Ok(Cel::Bool(request.answers.iter().any(|answer| answer == name)))
        } else {
            program(expression).execute(&context)
        };
        if let Ok(value) = value {
            variables.insert(Key::String(Arc::new(name.to_owned())), value);
            context.add_variable_from_value("variables", Cel::Map(Map { map: Arc::new(variables.clone()) }));
        }
    }
    let holds = |expression: &str| match program(expression).execute(&context) {
        Ok(Cel::Bool(value)) => value,
        other => panic!("an error is no refusal: {other:?}: {expression} for {}", request.object),
    };
    if items(&spec["matchConditions"]).iter().any(|condition| !holds(text(condition, "expression"))) {
        return Vec::new();
    }
    for annotation in items(&spec["auditAnnotations"]) {
        match program(text(annotation, "valueExpression")).execute(&context) {
            Ok(Cel::String(tenant)) if *tenant == "team-a" => {}
            other => panic!("the audit annotation {annotation} does not say whose namespace it is: {other:?}"),
        }
    }
    items(&spec["validations"])
        .iter()
        .filter(|validation| !holds(text(validation, "expression")))
        .map(|validation| text(validation, "message").to_owned())
        .collect()
}
