//! The one table of cases, against the rules and against the floor's policies.

use std::collections::{BTreeMap, BTreeSet};

use freehold_crds::{BoundarySpec, EnforcementMode};
use freehold_policy::cases::{self, Case, NAMESPACE, Row};
use freehold_policy::objects::{self, Object, Writer};
use freehold_policy::{Decision, Phase, pods};
use serde_json::Value;

mod floor;

fn decode<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("the case is no such object: {error}: {value}"))
}

fn decide(case: &Case, boundary: &BoundarySpec, phase: Phase, object: &Value) -> Decision {
    match case.resource.kind.as_str() {
        "Pod" => pods::check(boundary, NAMESPACE, phase, case.old.as_ref().map(decode).as_ref(), &decode(object)),
        _ => {
            let (group, _) = case.resource.group_version();
            let kind = objects::kind(group, &case.resource.plural).unwrap_or_else(|| panic!("no rules for {:?}", case.resource));
            let writer = Writer::of(case.user.as_deref().unwrap_or("alice"), &boundary.siblings);
            let read =
                |object: &Value| Object::read(kind, &object.to_string()).unwrap_or_else(|error| panic!("{error}: {object}"));
            objects::check(boundary, NAMESPACE, phase, writer, case.old.as_ref().map(read).as_ref(), &read(object))
        }
    }
}

fn fields(denials: &[freehold_policy::Denial]) -> Vec<String> {
    denials.iter().map(|denial| denial.field.clone()).collect()
}

/// What is wrong with the rules' answers to one case; empty if nothing.
fn faults_of_rules(case: &Case, boundary: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let spec: BoundarySpec = decode(boundary);
    let decision = decide(case, &spec, Phase::Judge, &case.object);
    if fields(&decision.denials) != case.refused {
        faults.push(format!(
            "the rules refuse {:?} instead of {:?}: {}",
            fields(&decision.denials),
            case.refused,
            decision.message()
        ));
    }
    let (told, silent) = if spec.enforcement_mode == EnforcementMode::Audit {
        (&decision.audited, &decision.observed)
    } else {
        (&decision.observed, &decision.audited)
    };
    if fields(told) != case.observed || !silent.is_empty() {
        faults.push(format!("the rules observe {:?} and {:?} instead of {:?}", fields(told), fields(silent), case.observed));
    }
    let completed = decide(case, &spec, Phase::Complete, &case.object);
    if case.completed || case.refused.is_empty() {
        let mut object = case.object.clone();
        match json_patch::patch(&mut object, &completed.patch) {
            Err(error) => faults.push(format!("the patch does not apply: {error}")),
            Ok(()) => {
                let judged = decide(case, &spec, Phase::Judge, &object);
                if !judged.admitted() {
                    faults.push(format!("completed, it is still refused: {}", judged.message()));
                }
            }
        }
        if case.completed == completed.patch.0.is_empty() {
            faults.push(format!("completed by {:?}", completed.patch));
        }
    } else if completed.admitted() || !completed.patch.0.is_empty() {
        faults.push("the mutating call admits or patches what is refused".to_owned());
    }
    if completed.message().contains("team-b") || decision.message().contains("team-b") {
        faults.push(format!("the message names another tenant: {}", decision.message()));
    }
    faults
}

/// What is wrong with one case; empty if nothing.
fn faults(case: &Case, boundary: &Value) -> Vec<String> {
    let mut faults = if case.rules { faults_of_rules(case, boundary) } else { Vec::new() };
    let (group, _) = case.resource.group_version();
    let refused = floor::refusals(&floor::Request {
        group: group.to_owned(),
        resource: case.resource.plural.clone(),
        subresource: case.subresource.clone().unwrap_or_default(),
        namespace: if case.resource.cluster { String::new() } else { NAMESPACE.to_owned() },
        object: case.object.clone(),
        old: case.old.clone(),
        params: Some(serde_json::json!({"spec": boundary})),
        username: case.user.clone().unwrap_or_else(|| "alice".to_owned()),
        answers: case.may.clone(),
    });
    if refused.is_empty() != (case.refused.is_empty() || !case.floor) {
        faults.push(format!("the floor refuses {refused:?}"));
    }
    faults
}

#[test]
fn rules_and_floor_do_what_the_table_says() {
    let presets: BTreeMap<String, Value> = cases::presets().into_iter().map(|preset| (preset.name, preset.boundary)).collect();
    let mut wrong = Vec::new();
    let all = cases::all();
    for case in &all {
        let boundary = presets.get(&case.boundary).unwrap_or_else(|| panic!("no Boundary {}", case.boundary));
        let found = faults(case, boundary);
        wrong.extend(found.into_iter().map(|fault| format!("{} {} ({}): {fault}", case.row, case.name, case.resource.kind)));
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

#[test]
fn every_row_has_an_attack_and_its_control() {
    let rows: BTreeMap<String, Row> = cases::rows().into_iter().map(|row| (row.id.clone(), row)).collect();
    let all = cases::all();
    for row in rows.values() {
        let of_row: Vec<&Case> = all.iter().filter(|case| case.row == row.id).collect();
        assert!(of_row.is_empty() || of_row.iter().any(|case| !case.refused.is_empty()), "{} has no attack", row.id);
        let mut controls = of_row.iter().filter(|case| case.refused.is_empty() && case.observed.is_empty());
        assert!(of_row.is_empty() || controls.clone().next().is_some(), "{} has no control", row.id);
        // What nobody sends proves nothing: an API server that refuses everything would pass.
        let is_sent = |case: &&&Case| case.older || (case.live != cases::Live::No && case.user.is_none());
        let has_live_test = row.tests.iter().any(|test| test.starts_with("e2e/"));
        assert!(
            of_row.is_empty() || has_live_test || controls.any(|case| is_sent(&case)),
            "{} has no control that is sent live",
            row.id
        );
    }
    let unknown: Vec<_> = all.iter().filter(|case| !rows.contains_key(&case.row)).map(|case| &case.row).collect();
    assert!(unknown.is_empty(), "cases of no row: {unknown:?}");
    let mut names = BTreeSet::new();
    for case in &all {
        assert!(names.insert((case.resource.kind.clone(), case.name.clone())), "two cases are named {}", case.name);
    }
}

/// Every row is tested, live cases or by a test that is there, and one that counts its attempts (`Tried`) counts them under the row's name.
#[test]
fn every_row_says_where_it_is_tested() {
    let all = cases::all();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut wrong = Vec::new();
    for row in cases::rows() {
        let is_live = all.iter().any(|case| case.row == row.id && (case.older || case.live != cases::Live::No));
        if !is_live && row.tests.is_empty() {
            wrong.push(format!("{} is tested nowhere", row.id));
        }
        for test in &row.tests {
            match std::fs::read_to_string(root.join(test)) {
                Err(error) => wrong.push(format!("{}: {test}: {error}", row.id)),
                Ok(text) if text.contains("Tried") && !text.contains(&format!("\"{}\"", row.id)) => {
                    wrong.push(format!("{} is not counted in {test}", row.id));
                }
                Ok(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
