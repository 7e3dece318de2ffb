//! Identities that a pod has itself given: tokens for others than the API server, and certificates.
//!
//! Input is a Boundary and a pod; the output goes into a pod's [`crate::Decision`]. The floor has the same rules in
//! `charts/freehold/templates/floor/pods-boundary.yaml`, and for `serviceaccounts/token` in `tokens.yaml`. A token for a foreign audience
//! lets a tenant pass for a cluster's workload there; which audiences trust it is known to the platform team only.

use freehold_crds::PodBoundary;

use crate::view::Pod;
use crate::{Denial, listed, shown_list};

/// Tokens and certificates that the tenant may not have.
pub fn check(prefix: &str, limits: &PodBoundary, pod: &Pod) -> Vec<Denial> {
    let mut denials = Vec::new();
    for (index, volume) in pod.spec.volumes.iter().enumerate() {
        let sources = volume.projected.iter().flat_map(|projected| &projected.sources).enumerate();
        for (source, projection) in sources {
            let at = format!("{prefix}spec.volumes[{index}].projected.sources[{source}]");
            let audience = projection.service_account_token.as_ref().and_then(|token| token.audience.as_deref());
            if let Some(audience) = audience.filter(|name| !name.is_empty() && !listed(&limits.token_audiences, name)) {
                let allowed = match limits.token_audiences.as_slice() {
                    [] => "unset: the API server".to_owned(),
                    names => format!("unset, {}", shown_list(names)),
                };
                denials.push(Denial::new(format!("{at}.serviceAccountToken.audience"), audience, "token audiences", allowed));
            }
            if let Some(certificate) = &projection.pod_certificate {
                let field = format!("{at}.podCertificate.signerName");
                denials.push(Denial::new(field, &certificate.signer_name, "pod certificates", "none; ask the platform team"));
            }
        }
    }
    denials
}
