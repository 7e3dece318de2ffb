//! What pods run comes from where the tenant may take it.
//!
//! Input is a Boundary's rules of images and a pod; the output goes into a pod's [`crate::Decision`]. Every place that names
//! an image is looked at: containers of all three lists and image volumes. The floor has the same rules in
//! `charts/freehold/templates/floor/pods-boundary.yaml`.
//!
//! Names are compared with the registry spelt out, as container runtimes resolve them (distribution/reference,
//! "familiar names"): `nginx` is `docker.io/library/nginx`.

use freehold_crds::{ImageDigest, ImageRules, PullPolicy};

use crate::view::Pod;
use crate::{Denial, listed, shown_list};

/// An image that a pod names.
struct Named<'a> {
    /// Where, without the last field.
    at: String,
    /// The last field, `image` or `reference`.
    field: &'static str,
    reference: &'a str,
    /// Field and value of the pull policy.
    pull: (&'static str, Option<&'a str>),
}

fn named(pod: &Pod) -> Vec<Named<'_>> {
    let mut found = Vec::new();
    for (list, containers) in pod.spec.lists() {
        found.extend(containers.iter().enumerate().map(|(index, container)| Named {
            at: format!("spec.{list}[{index}]"),
            field: "image",
            reference: container.image.as_deref().unwrap_or_default(),
            pull: ("imagePullPolicy", container.image_pull_policy.as_deref()),
        }));
    }
    let volumes = pod.spec.volumes.iter().enumerate();
    found.extend(volumes.filter_map(|(index, volume)| {
        let image = volume.image.as_ref()?;
        let pull = ("pullPolicy", image.pull_policy.as_deref());
        Some(Named { at: format!("spec.volumes[{index}].image"), field: "reference", reference: &image.reference, pull })
    }));
    found
}

/// The reference with its registry spelt out.
pub fn full(reference: &str) -> String {
    let (first, rest) = reference.split_once('/').unwrap_or(("", reference));
    match first {
        "" => format!("docker.io/library/{rest}"),
        "localhost" => reference.to_owned(),
        host if host.contains(['.', ':']) => reference.to_owned(),
        _ => format!("docker.io/{reference}"),
    }
}

/// Whether a list of repositories has this image, whatever its tag and digest; an entry with `*` has all that begin like it.
fn from_listed(registries: &[String], full: &str) -> bool {
    registries.iter().any(|entry| match entry.strip_suffix('*') {
        Some(start) => full.starts_with(start),
        // After the repository only a tag or a digest may come: `registry` is not `registry:5000/app`.
        None => full
            .strip_prefix(entry.as_str())
            .is_some_and(|rest| rest.is_empty() || (rest.starts_with([':', '@']) && !rest.contains('/'))),
    })
}

/// The tag of a reference: `latest` if there is neither tag nor digest, as for the kubelet (its `ParseImageName`), none if there is a digest alone.
fn tag(reference: &str) -> Option<&str> {
    let (name, digest) = reference.split_once('@').map_or((reference, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split_once(':').map(|(_, tag)| tag).or(if digest.is_some() { None } else { Some("latest") })
}

/// All images that a pod may not run. Of a pod that exists only what changed is judged.
pub fn check(prefix: &str, rules: &ImageRules, old: Option<&Pod>, new: &Pod) -> Vec<Denial> {
    let mut denials = Vec::new();
    let before: Vec<&str> = old.map(named).unwrap_or_default().iter().map(|image| image.reference).collect();
    // An empty name is refused by the API server in a pod, and is filled in later in a template.
    for image in named(new).iter().filter(|image| !image.reference.is_empty() && !before.contains(&image.reference)) {
        let field = format!("{prefix}{}.{}", image.at, image.field);
        let full = full(image.reference);
        if let Some(registries) = &rules.registries
            && !from_listed(registries, &full)
        {
            denials.push(Denial::new(&field, image.reference, "image registries", shown_list(registries)));
        }
        if rules.digest == Some(ImageDigest::Required) && !image.reference.contains("@sha256:") {
            denials.push(Denial::new(&field, image.reference, "image digests", "an image by its content: name@sha256:…"));
        }
        if let (Some(tags), Some(tag)) = (&rules.tags, tag(image.reference))
            && listed(&tags.forbidden, tag)
        {
            let allowed = format!("a tag, but not {}; without one it is latest", tags.forbidden.join(", "));
            denials.push(Denial::new(&field, image.reference, "image tags", allowed));
        }
        if let (Some(allowed), (pull, Some(value))) = (&rules.pull_policies, image.pull) {
            let names: Vec<_> = allowed.iter().copied().map(PullPolicy::name).collect();
            if !names.contains(&value) {
                let field = format!("{prefix}{}.{pull}", image.at);
                denials.push(Denial::new(field, value, "image pull policies", names.join(", ")));
            }
        }
    }
    denials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelt_out_as_runtimes_do() {
        for (reference, expected) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.29", "docker.io/library/nginx:1.29"),
            ("team/app", "docker.io/team/app"),
            ("localhost/app:1", "localhost/app:1"),
            ("registry:5000/app", "registry:5000/app"),
            ("registry.example/pay/app:1@sha256:00", "registry.example/pay/app:1@sha256:00"),
            ("a/é:b", "docker.io/a/é:b"),
        ] {
            assert_eq!(full(reference), expected);
        }
    }

    #[test]
    fn a_tag_is_what_the_kubelet_takes_for_it() {
        for (reference, expected) in [
            ("nginx", Some("latest")),
            ("nginx:1.29", Some("1.29")),
            ("registry.example:5000/app", Some("latest")),
            ("registry.example:5000/app:2", Some("2")),
            ("app@sha256:00", None),
            ("app:dev@sha256:00", Some("dev")),
            ("registry.example:5000/app@sha256:00", None),
        ] {
            assert_eq!(tag(reference), expected, "{reference}");
        }
    }

    #[test]
    fn a_repository_is_listed_with_any_tag() {
        for (entry, full, expected) in [
            ("docker.io/library/nginx", "docker.io/library/nginx", true),
            ("docker.io/library/nginx", "docker.io/library/nginx:1@sha256:00", true),
            ("docker.io/library/nginx", "docker.io/library/nginx-evil:1", false),
            ("docker.io/library/nginx:1", "docker.io/library/nginx:1@sha256:00", true),
            ("docker.io/library/nginx:1", "docker.io/library/nginx:2", false),
            ("registry", "registry:5000/app", false),
            ("registry:5000/*", "registry:5000/app:2", true),
        ] {
            assert_eq!(from_listed(&[entry.to_owned()], full), expected, "{entry} {full}");
        }
    }
}
