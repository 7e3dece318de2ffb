//! The one table of cases: what an object says, the Boundary it is judged by, and what must come of it.
//!
//! Input are the files of `policy/cases`, which are part of the crate; the rules' own tests, the tests of the floor, the live
//! tests on a cluster and the generated page of attacks all read them here, so that they can't drift. Only built with the feature
//! `cases`: no server carries it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

/// The files of cases.
const FILES: &[(&str, &str)] = &[
    ("pods.yaml", include_str!("../cases/pods.yaml")),
    ("workloads.yaml", include_str!("../cases/workloads.yaml")),
    ("services.yaml", include_str!("../cases/services.yaml")),
    ("network.yaml", include_str!("../cases/network.yaml")),
    ("storage.yaml", include_str!("../cases/storage.yaml")),
    ("rights.yaml", include_str!("../cases/rights.yaml")),
    ("system.yaml", include_str!("../cases/system.yaml")),
    ("own.yaml", include_str!("../cases/own.yaml")),
    ("gateways.yaml", include_str!("../cases/gateways.yaml")),
    ("cordoned.yaml", include_str!("../cases/cordoned.yaml")),
];
const BOUNDARIES: &str = include_str!("../cases/boundaries.yaml");
const ROWS: &str = include_str!("../cases/rows.yaml");

/// The namespace that cases are in, and the tenant it belongs to.
pub const NAMESPACE: &str = "team-a-dev";
/// See [`NAMESPACE`].
pub const TENANT: &str = "team-a";
/// The Boundary of cases that name none.
pub const PLAIN: &str = "plain";

/// What a Tenant says and what its Boundaries are by that.
#[derive(Clone, Debug)]
pub struct Preset {
    /// Its name.
    pub name: String,
    /// The Tenant's spec, without owners and runtimes; null if no Tenant says that.
    pub tenant: Value,
    /// The Boundary's spec.
    pub boundary: Value,
}

/// A row of the table of attacks.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// The attack.
    pub attack: String,
    /// The layer that holds it.
    pub layer: String,
    /// Tests beside the cases.
    #[serde(default)]
    pub tests: Vec<String>,
}

/// What a live API server says to a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Live {
    /// What the rules say.
    #[default]
    Yes,
    /// It refuses before any policy is asked, because the object is no valid one or names what does not exist.
    Server,
    /// It can't be tried there: nobody could have such an object.
    No,
}

/// One object and what must come of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The row of the table of attacks.
    pub row: String,
    /// What is tried, in words.
    pub name: String,
    /// The Boundary, by the name of its preset.
    pub boundary: String,
    /// The kind's version, kind and plural.
    pub resource: Resource,
    /// The subresource, if one is written.
    pub subresource: Option<String>,
    /// What is there before an update.
    pub old: Option<Value>,
    /// What is sent.
    pub object: Value,
    /// Who sends it; the tenant's owner if absent.
    pub user: Option<String>,
    /// What the authorizer says yes to, by the names of the floor's variables.
    pub may: Vec<String>,
    /// Fields that are refused, in order.
    pub refused: Vec<String>,
    /// Fields that are only observed.
    pub observed: Vec<String>,
    /// Whether the mutating call completes the object so that it is admitted.
    pub completed: bool,
    /// Whether the floor refuses it too.
    pub floor: bool,
    /// Whether the webhook has rules for it.
    pub rules: bool,
    /// What a live API server says.
    pub live: Live,
    /// Whether `old` is from before the boundary. Sent live by itself, in a namespace that is taken in.
    pub older: bool,
}

/// A kind of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `v1`, `apps/v1`; of the resource, not of what a subresource takes.
    pub api_version: String,
    /// `Pod`.
    pub kind: String,
    /// `pods`.
    pub plural: String,
    /// Whether it is a kind of the cluster.
    pub cluster: bool,
}

impl Resource {
    /// Group and version.
    pub fn group_version(&self) -> (&str, &str) {
        self.api_version.split_once('/').unwrap_or(("", &self.api_version))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Area {
    api_version: String,
    kind: String,
    resource: String,
    object: Value,
    #[serde(default)]
    container: Value,
    #[serde(default)]
    shapes: BTreeMap<String, Value>,
    /// The floor alone judges this kind: the webhook is not asked.
    #[serde(default)]
    floor_only: bool,
    /// Version of the resource, where a subresource takes an object of another group.
    on: Option<String>,
    /// No kind of a namespace.
    #[serde(default)]
    cluster: bool,
    cases: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    row: String,
    name: String,
    boundary: Option<String>,
    #[serde(default, rename = "as")]
    shape: Option<String>,
    #[serde(default)]
    set: Value,
    container: Option<Value>,
    lists: Option<Vec<String>>,
    old: Option<Value>,
    subresource: Option<String>,
    user: Option<String>,
    #[serde(default)]
    may: Vec<String>,
    #[serde(default)]
    refused: Vec<String>,
    #[serde(default)]
    observed: Vec<String>,
    #[serde(default)]
    completed: bool,
    floor: Option<bool>,
    rules: Option<bool>,
    #[serde(default)]
    live: Live,
    #[serde(default)]
    older: bool,
}

#[derive(Deserialize)]
struct RawPreset {
    name: String,
    tenant: Value,
    boundary: Value,
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> T {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("policy/cases/{name}: {error}"))
}

fn merged(base: &Value, patch: &Value) -> Value {
    let mut object = base.clone();
    if !patch.is_null() {
        json_patch::merge(&mut object, patch);
    }
    object
}

/// All Boundaries.
///
/// # Panics
/// If the file is not of its form: it is part of this crate.
pub fn presets() -> Vec<Preset> {
    let raw: Vec<RawPreset> = parse("boundaries.yaml", BOUNDARIES);
    let plain = raw.first().map(|preset| preset.boundary.clone()).unwrap_or_default();
    raw.into_iter()
        .map(|preset| Preset { boundary: merged(&plain, &preset.boundary), name: preset.name, tenant: preset.tenant })
        .collect()
}

/// All rows of the table of attacks.
///
/// # Panics
/// As [`presets`].
pub fn rows() -> Vec<Row> {
    parse("rows.yaml", ROWS)
}

/// All cases.
///
/// # Panics
/// As [`presets`].
pub fn all() -> Vec<Case> {
    let documents = FILES.iter().flat_map(|(name, text)| {
        serde_yaml::Deserializer::from_str(text)
            .map(move |document| Area::deserialize(document).unwrap_or_else(|error| panic!("policy/cases/{name}: {error}")))
    });
    documents.flat_map(area).collect()
}

fn area(area: Area) -> Vec<Case> {
    let resource = Resource {
        api_version: area.on.clone().unwrap_or_else(|| area.api_version.clone()),
        kind: area.kind.clone(),
        plural: area.resource.clone(),
        cluster: area.cluster,
    };
    let mut base = json!({"apiVersion": area.api_version, "kind": area.kind});
    json_patch::merge(&mut base, &area.object);
    let mut cases = Vec::new();
    for entry in &area.cases {
        let shape = entry
            .shape
            .as_ref()
            .map_or(&Value::Null, |name| area.shapes.get(name).unwrap_or_else(|| panic!("{} has no shape {name}", area.kind)));
        let shaped = merged(&base, shape);
        let case = Case {
            row: entry.row.clone(),
            name: entry.name.clone(),
            boundary: entry.boundary.clone().unwrap_or_else(|| PLAIN.to_owned()),
            resource: resource.clone(),
            subresource: entry.subresource.clone(),
            old: entry.old.as_ref().map(|old| merged(&shaped, old)),
            object: merged(&shaped, &entry.set),
            user: entry.user.clone(),
            may: entry.may.clone(),
            refused: entry.refused.clone(),
            observed: entry.observed.clone(),
            completed: entry.completed,
            floor: entry.floor.unwrap_or(true),
            rules: entry.rules.unwrap_or(!area.floor_only),
            live: if entry.older { Live::No } else { entry.live },
            older: entry.older,
        };
        let Some(content) = &entry.container else {
            cases.push(case);
            continue;
        };
        let each = ["containers", "initContainers", "ephemeralContainers"];
        for list in each.into_iter().filter(|list| entry.lists.as_ref().is_none_or(|lists| lists.iter().any(|one| one == list))) {
            cases.push(in_list(&case, list, &merged(&area.container, content)));
        }
    }
    cases
}

/// The case with this container as the second of one list: a rule that forgets a list, or looks at the first only, fails.
fn in_list(case: &Case, list: &str, container: &Value) -> Case {
    let mut case = case.clone();
    let mut first = case.object["spec"]["containers"][0].clone();
    if list != "containers" {
        first["name"] = json!("first");
    }
    if list == "ephemeralContainers" {
        // They come by their subresource only.
        case.old = Some(case.object.clone());
        case.subresource = Some(list.to_lowercase());
    }
    case.object["spec"][list] = json!([first, container]);
    case.name = format!("{} in {list}", case.name);
    for fields in [&mut case.refused, &mut case.observed] {
        fields.iter_mut().for_each(|field| *field = format!("spec.{list}[1].{field}"));
    }
    case
}
