//! The class of QoS that a pod's resources make, where the tenant may have only some.
//!
//! Input is a Boundary and a pod that is created; the output goes into a pod's [`crate::Decision`]. The floor has the same rule in
//! `charts/freehold/templates/floor/pods-boundary.yaml`. The class never changes: the API server refuses a resize that would change it.
//! Source: Kubernetes, pkg/apis/core/v1/helper/qos, `ComputePodQOS`: CPU and memory only, containers and init containers, and instead of them the pod's own
//! resources where it says some. It compares sums; that is the same as comparing each, since no request may be above its limit. Both the mutating call and
//! the floor come after the API server's defaults (a limit is a request too) and after those of a LimitRange (its plugin runs before any webhook).

use freehold_crds::QosClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::Denial;
use crate::quantity::Amount;
use crate::view::{Figure, Pod, PodSpec, Resources};

/// Resources that count.
const COUNTED: [&str; 2] = ["cpu", "memory"];

/// Thousandths of what is written; none where it is no quantity, or nothing. Unlike a Tenant's a pod's may have an exponent (`1e3`).
fn amount(figure: Option<&Figure>) -> Option<i128> {
    let text = figure?.0.trim();
    let parse = |text: &str| Amount::parse(&Quantity(text.to_owned())).map(|amount| amount.milli);
    let exponent = text.split_once(['e', 'E']).and_then(|(number, power)| Some((parse(number)?, power.parse::<i32>().ok()?)));
    let milli = match exponent {
        Some((number, power)) => {
            let scale = 10_i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { number / scale } else { number.saturating_mul(scale) }
        }
        None => parse(text)?,
    };
    (milli > 0).then_some(milli)
}

fn of(bearers: &[&Resources]) -> QosClass {
    let both = |name: &str, one: &Resources| (amount(one.limits.get(name)), amount(one.requests.get(name)));
    let mut all = bearers.iter().flat_map(|one| COUNTED.map(|name| both(name, one)));
    if all.clone().all(|amounts| amounts == (None, None)) {
        return QosClass::BestEffort;
    }
    if all.all(|(limit, request)| limit.is_some() && limit == request) { QosClass::Guaranteed } else { QosClass::Burstable }
}

fn bearers(spec: &PodSpec) -> Vec<&Resources> {
    match &spec.resources {
        Some(own) => vec![own],
        None => spec.containers.iter().chain(&spec.init_containers).map(|container| &container.resources).collect(),
    }
}

fn denial(prefix: &str, allowed: &[QosClass], class: QosClass, spec: &PodSpec) -> Option<Denial> {
    if allowed.contains(&class) {
        return None;
    }
    let field = if spec.resources.is_some() { "spec.resources" } else { "spec.containers[*].resources" };
    let allowed = allowed.iter().map(|class| class.name()).collect::<Vec<_>>().join(", ");
    Some(Denial::new(
        format!("{prefix}{field}"),
        class.name(),
        "classes of QoS",
        format!("cpu and memory that make class {allowed}"),
    ))
}

/// A pod of a class that the tenant does not have.
pub fn check(allowed: Option<&[QosClass]>, pod: &Pod) -> Option<Denial> {
    denial("", allowed?, of(&bearers(&pod.spec)), &pod.spec)
}

/// The same of a template, where its class is certain: both are limited everywhere, so that nothing is left for a LimitRange to fill in. What a container
/// does not request is then as much as its limit; what the pod itself does not request depends on its containers.
pub fn check_template(prefix: &str, allowed: Option<&[QosClass]>, template: &Pod) -> Option<Denial> {
    let allowed = allowed?;
    let said: Vec<Resources> = bearers(&template.spec)
        .into_iter()
        .map(|one| {
            let mut requests = one.limits.clone();
            requests.extend(one.requests.clone());
            Resources { limits: one.limits.clone(), requests }
        })
        .collect();
    let has_both = |one: &Resources| COUNTED.iter().all(|name| amount(one.limits.get(*name)).is_some());
    let is_said = template.spec.resources.as_ref().is_none_or(|own| COUNTED.iter().all(|name| own.requests.contains_key(*name)));
    let is_certain = is_said && said.iter().all(has_both);
    let class = of(&said.iter().collect::<Vec<_>>());
    is_certain.then(|| denial(prefix, allowed, class, &template.spec)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_compared_and_not_how_they_are_written() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("1000m", Some(1000)),
            ("1e3", Some(1_000_000)),
            ("1E3", Some(1_000_000)),
            ("15e-1", Some(1500)),
            ("1Ei", Some((1 << 60) * 1000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("0", None),
            ("0e3", None),
            ("", None),
            ("1e999", None),
        ] {
            assert_eq!(amount(Some(&Figure(text.to_owned()))), expected, "{text}");
        }
    }
}
