//! A tenant's claims of storage get new volumes of its classes, never a volume that was somebody else's.
//!
//! Input is a Boundary and a PersistentVolumeClaim that is created; the output goes into a [`crate::Decision`]. The floor has the same
//! rules in `charts/freehold/templates/floor/storage.yaml`. What may change later is the size, which quota counts, and the volume's name,
//! which only controllers write (`system-writes.yaml`). An empty class takes any volume without one that is there, and a selector one of
//! those that are there. Volumes that a CSI driver makes with a pod take their parameters from the pod, and what a driver does with those only the platform team knows: it lists the drivers
//! (floor: `pods-boundary.yaml`).

use freehold_crds::{PodBoundary, StorageBoundary};

use crate::objects::Found;
use crate::view::{PersistentVolumeClaim, Pod, Workload};
use crate::{Denial, listed, set, shown_list};

/// All that stands against a claim, and what completes it; `prefix` is where it stands in a template.
pub fn check(prefix: &str, limits: &StorageBoundary, namespace: &str, new: &PersistentVolumeClaim) -> Found {
    let mut found = Found::default();
    let (spec, classes) = (&new.spec, &limits.class_names);
    let field = |field: &str| format!("{prefix}spec.{field}");
    let missing = || Denial::new(field("storageClassName"), "(unset)", "storage classes", shown_list(&classes.allowed));
    match spec.storage_class_name.as_deref() {
        // What a template leaves open is filled in when the claim is made, by the webhook or from the cluster's default class.
        None if !prefix.is_empty() => {}
        None => found.complete(
            classes.default.as_ref().map(|default| set(&["spec"], "storageClassName", default.as_str().into())),
            missing(),
        ),
        Some("") => found.by_mode.push(missing()),
        Some(class) if !listed(&classes.allowed, class) => {
            found.by_mode.push(Denial::new(field("storageClassName"), class, "storage classes", shown_list(&classes.allowed)));
        }
        Some(_) => {}
    }
    if let Some(volume) = spec.volume_name.as_deref().filter(|volume| !volume.is_empty()) {
        found.always.push(Denial::new(field("volumeName"), volume, "volumes by name", "unset: a new volume is made"));
    }
    if spec.selector.is_some() {
        found.always.push(Denial::new(field("selector"), "set", "volumes by name", "unset: a new volume is made"));
    }
    if let Some(other) = spec.data_source_ref.namespace.as_deref().filter(|other| !other.is_empty() && *other != namespace) {
        found.always.push(Denial::new(field("dataSourceRef.namespace"), other, "data of other namespaces", "unset"));
    }
    found
}

/// All that stands against claims that are made with a pod: the claim itself is refused in any case, and then the pod waits for it.
pub fn ephemeral(prefix: &str, limits: &StorageBoundary, namespace: &str, pod: &Pod) -> Found {
    let volumes = pod.spec.volumes.iter().enumerate();
    let claims = volumes.filter_map(|(index, volume)| Some((index, &volume.ephemeral.as_ref()?.volume_claim_template)));
    let at = |index: usize| format!("{prefix}spec.volumes[{index}].ephemeral.volumeClaimTemplate.");
    claims.map(|(index, claim)| check(&at(index), limits, namespace, claim)).collect()
}

/// All that stands against the claims of a StatefulSet.
pub fn templates(limits: &StorageBoundary, namespace: &str, workload: &Workload) -> Found {
    let claims = workload.spec.volume_claim_templates.iter().enumerate();
    claims.map(|(index, claim)| check(&format!("spec.volumeClaimTemplates[{index}]."), limits, namespace, claim)).collect()
}

/// Volumes of CSI drivers that a pod says itself.
pub fn inline(prefix: &str, limits: &PodBoundary, pod: &Pod) -> Vec<Denial> {
    let drivers = pod.spec.volumes.iter().enumerate().filter_map(|(index, volume)| Some((index, &volume.csi.as_ref()?.driver)));
    drivers
        .filter(|(_, driver)| !listed(&limits.csi_drivers, driver))
        .map(|(index, driver)| {
            let field = format!("{prefix}spec.volumes[{index}].csi.driver");
            Denial::new(field, driver, "inline CSI volumes", shown_list(&limits.csi_drivers))
        })
        .collect()
}
