//! Devices that are claimed (DRA) are of the classes that a tenant has, and never ones in use by others.
//!
//! Input is a Boundary and a ResourceClaim or its template; the output goes into a [`crate::Decision`]. The floor has the same rules in
//! `charts/freehold/templates/floor/device-claims.yaml`. Admin access opens devices of other tenants, so it is refused in every mode.

use freehold_crds::PodBoundary;

use crate::objects::Found;
use crate::view::DeviceClaim;
use crate::{Denial, listed, shown_list};

/// All that stands against a claim.
pub fn check(limits: &PodBoundary, new: &DeviceClaim) -> Found {
    let mut found = Found::default();
    for (at, devices) in [("spec", &new.spec.devices), ("spec.spec", &new.spec.spec.devices)] {
        for (index, request) in devices.requests.iter().enumerate() {
            let at = format!("{at}.devices.requests[{index}]");
            let alternatives = request.first_available.iter().enumerate();
            let choices = [
                (at.clone(), &request.device_class_name, request.admin_access),
                (format!("{at}.exactly"), &request.exactly.device_class_name, request.exactly.admin_access),
            ]
            .into_iter()
            .chain(
                alternatives
                    .map(|(index, one)| (format!("{at}.firstAvailable[{index}]"), &one.device_class_name, one.admin_access)),
            );
            for (at, class, admin) in choices {
                if let Some(class) = class.as_deref().filter(|class| !listed(&limits.device_class_names, class)) {
                    let allowed = shown_list(&limits.device_class_names);
                    found.by_mode.push(Denial::new(format!("{at}.deviceClassName"), class, "device classes", allowed));
                }
                if admin {
                    found.always.push(Denial::new(
                        format!("{at}.adminAccess"),
                        true,
                        "devices in use by others",
                        "false or unset",
                    ));
                }
            }
        }
    }
    found
}
