//! A tenant's claims of storage get new volumes of its classes, never a volume that was somebody else's.
//!
//! Input is a Boundary and a PersistentVolumeClaim that is created; the output goes into a [`crate::Decision`]. The floor has the same
//! rules in `charts/freehold/templates/floor/storage.yaml`. What may change later is the size, which quota counts, and the volume's name,
//! which only controllers write (`system-writes.yaml`). An empty class takes any volume without one that is there. Volumes that a CSI driver
//! makes with a pod take their parameters from the pod, and what a driver does with those only the platform team knows: it lists the drivers
//! (floor: `pods-boundary.yaml`).

use freehold_crds::{PodBoundary, StorageBoundary};

use crate::objects::Found;
use crate::view::{PersistentVolumeClaim, Pod};
use crate::{Denial, listed, set, shown_list};

/// All that stands against a claim, and what completes it.
pub fn check(limits: &StorageBoundary, namespace: &str, new: &PersistentVolumeClaim) -> Found {
    let mut found = Found::default();
    let (spec, classes) = (&new.spec, &limits.class_names);
    let missing = || Denial::new("spec.storageClassName", "(unset)", "storage classes", shown_list(&classes.allowed));
    match spec.storage_class_name.as_deref() {
        None => found.complete(
            classes.default.as_ref().map(|default| set(&["spec"], "storageClassName", default.as_str().into())),
            missing(),
        ),
        Some("") => found.by_mode.push(missing()),
        Some(class) if !listed(&classes.allowed, class) => {
            found.by_mode.push(Denial::new("spec.storageClassName", class, "storage classes", shown_list(&classes.allowed)));
        }
        Some(_) => {}
    }
    if let Some(volume) = spec.volume_name.as_deref().filter(|volume| !volume.is_empty()) {
        found.always.push(Denial::new("spec.volumeName", volume, "volumes by name", "unset: a new volume is made"));
    }
    if let Some(other) = spec.data_source_ref.namespace.as_deref().filter(|other| !other.is_empty() && *other != namespace) {
        found.always.push(Denial::new("spec.dataSourceRef.namespace", other, "data of other namespaces", "unset"));
    }
    found
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
