//! The shim's configuration of one handler, and where things lie on a node.
//!
//! Input: the bundle's version, the acceleration the canary proved, the SandboxRuntime's memory. The shim reads the text
//! at a sandbox's start. It stands apart because the shim refuses unknown keys: both must agree on every one.

use serde::Serialize;

/// Freehold's folder on a node.
pub const ROOT: &str = "/opt/freehold";
/// Folder of converted image layers on a node.
pub const LAYER_CACHE: &str = "/var/lib/freehold/layers";
/// Bytes the layer cache may hold: 8 GiB.
pub const LAYER_CACHE_MAX_BYTES: u64 = 8 << 30;
/// Folder of tenants' templates on a node.
pub const TEMPLATES: &str = "/var/lib/freehold/templates";
/// Bytes that templates may take on a node's disk: 1 GiB, about 19 of them.
pub const TEMPLATES_MAX_BYTES: u64 = 1 << 30;
/// Memory of a pod without limits, where the SandboxRuntime names none.
pub const DEFAULT_MEMORY_MIB: u32 = 256;

/// How guest code is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's own translation.
    Tcg,
}

#[derive(Serialize)]
struct Config<'a> {
    version: u32,
    bundle: String,
    acceleration: Acceleration,
    default_memory_mib: u32,
    layer_cache: &'a str,
    layer_cache_max_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    templates: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    templates_max_bytes: Option<u64>,
}

/// The folder of a bundle's version on the node.
pub fn bundle_path(version: &str) -> String {
    format!("{ROOT}/versions/{version}")
}

/// The shim of a bundle's version on the node.
pub fn shim_path(version: &str) -> String {
    format!("{}/bin/containerd-shim-freehold-v2", bundle_path(version))
}

/// The name by which containerd 2 runs the shim for a handler: the shim finds its configuration beside the name it was run by.
pub fn program_path(version: &str, handler: &str) -> String {
    format!("{}/handlers/{handler}", bundle_path(version))
}

/// Links that make it so, and where each leads, relative to itself.
pub fn links(version: &str, handler: &str) -> [(String, String); 2] {
    let program = program_path(version, handler);
    let config = (format!("{program}.toml"), format!("../../../handlers/{handler}.toml"));
    [(program, "../bin/containerd-shim-freehold-v2".to_owned()), config]
}

/// The configuration of a handler on the node.
pub fn config_path(handler: &str) -> String {
    format!("{ROOT}/handlers/{handler}.toml")
}

/// The file's text.
pub fn config(version: &str, acceleration: Acceleration, memory_mib: u32, templates: bool) -> Result<String, toml::ser::Error> {
    toml::to_string(&Config {
        version: 1,
        bundle: bundle_path(version),
        acceleration,
        default_memory_mib: memory_mib,
        layer_cache: LAYER_CACHE,
        layer_cache_max_bytes: LAYER_CACHE_MAX_BYTES,
        templates: templates.then_some(TEMPLATES),
        templates_max_bytes: templates.then_some(TEMPLATES_MAX_BYTES),
    })
}

/// MiB of a Kubernetes quantity in the units people write for memory; `None` for others, fractions and zero.
pub fn mebibytes(quantity: &str) -> Option<u32> {
    let split = quantity.find(|character: char| !character.is_ascii_digit()).unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(split);
    let factor: u64 = match unit {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return None,
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(factor)?;
    u32::try_from(bytes >> 20).ok().filter(|mebibytes| *mebibytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_keys_the_shim_knows() {
        let text = config("v1", Acceleration::Tcg, 256, false).unwrap();
        let expected = "version = 1\nbundle = \"/opt/freehold/versions/v1\"\nacceleration = \"tcg\"\ndefault_memory_mib = 256\n\
                        layer_cache = \"/var/lib/freehold/layers\"\nlayer_cache_max_bytes = 8589934592\n";
        assert_eq!(text, expected);
        let with = "templates = \"/var/lib/freehold/templates\"\ntemplates_max_bytes = 1073741824\n";
        assert_eq!(config("v1", Acceleration::Tcg, 256, true).unwrap(), format!("{expected}{with}"));
    }

    #[test]
    fn links_lead_to_the_shim_and_the_configuration() {
        let resolved = |place: &str, target: &str| {
            let mut parts: Vec<&str> = place.split('/').collect();
            parts.pop();
            for part in target.split('/') {
                match part {
                    ".." => parts.truncate(parts.len() - 1),
                    part => parts.push(part),
                }
            }
            parts.join("/")
        };
        let [program, config] = links("v1", "microvm");
        assert_eq!(program.0, program_path("v1", "microvm"));
        assert_eq!(resolved(&program.0, &program.1), shim_path("v1"));
        assert_eq!(config.0, format!("{}.toml", program.0));
        assert_eq!(resolved(&config.0, &config.1), config_path("microvm"));
    }

    #[test]
    fn quantities() {
        for (text, mebibytes_of) in
            [("256Mi", Some(256)), ("1Gi", Some(1024)), ("268435456", Some(256)), ("1", None), ("x", None), ("1.5Gi", None)]
        {
            assert_eq!(mebibytes(text), mebibytes_of, "{text}");
        }
    }
}
