//! Templates: a tenant's machines begin as clones of one that has booted already.
//!
//! A template is the memory and the device state of a machine that was held before its first words, so nothing of a pod is in
//! it. It is made by `templates`, which the node agent runs outside every pod, and confined like any machine. A pod's shim only
//! reads it: [`tenant`] finds the tenant of the pod's namespace in a map that the node agent writes, and [`choose`] the template by a
//! [`key`] over all that it depends on. Whatever is missing or wrong means that the machine boots cold, which always works.
//!
//! ```text
//! folder (root's alone)
//! ├── tenants.json                 namespace to tenant; the node agent writes it anew while it knows that it is true
//! ├── wanted/TENANT                a pod of this tenant booted cold for want of a template
//! └── KEY/memory, state, seal.json read-only for ever; seal.json's time is that of its last use
//! ```

pub mod key;
pub mod make;
pub mod map;
pub mod store;

use std::path::Path;

use crate::config::{Bundle, Config};
use crate::machine::command::{self, Base, Pieces, Shape};
use crate::machine::process;

/// A template that a pod may begin with.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Its files.
    pub pieces: Pieces,
    key: String,
}

/// The tenant of a pod of this namespace; in words why there is none.
///
/// # Errors
/// If templates are off, or the namespace is not known to be a tenant's.
pub fn tenant(config: &Config, namespace: Option<&str>) -> Result<String, String> {
    let folder = config.templates.as_deref().ok_or("templates are off")?;
    map::tenant(folder, namespace.ok_or("the sandbox names no namespace")?)
}

/// The template for a pod of a tenant, which is asked for if there is none; in words why.
///
/// # Errors
/// As [`of`].
pub fn choose(config: &Config, tenant: &str) -> Result<Template, String> {
    of(config, tenant).inspect_err(|_| {
        if let Some(folder) = &config.templates {
            store::want(folder, tenant);
        }
    })
}

/// The template of a tenant; in words why there is none.
///
/// # Errors
/// If templates are off, or the tenant has no whole template on this node.
pub fn of(config: &Config, tenant: &str) -> Result<Template, String> {
    let folder = config.templates.as_deref().ok_or("templates are off")?;
    let key = key_of(config, tenant)?;
    Ok(Template { pieces: store::open(folder, &key)?, key })
}

/// Takes a template away that did not wake, so that another one is made.
pub fn reject(config: &Config, template: &Template) {
    if let Some(folder) = &config.templates {
        store::remove(folder, &template.key);
    }
}

/// The key of a tenant's template for machines of this handler on this node, as it is now.
fn key_of(config: &Config, tenant: &str) -> Result<String, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()));
    let manifest = read(&config.bundle.join("manifest.json"))?;
    let boot = read(Path::new("/proc/sys/kernel/random/boot_id"))?;
    let processor = read(Path::new("/proc/cpuinfo"))?;
    let arguments = clone_arguments(config);
    Ok(key::of(&key::Parts { tenant, manifest: &manifest, boot: &boot, processor: &processor, arguments: &arguments }))
}

/// The clone's command line, but for its descriptors.
fn clone_arguments(config: &Config) -> Vec<String> {
    let size = process::size(config);
    let nowhere = || Pieces { memory: "memory".into(), state: "state".into() };
    command::arguments(&Shape {
        bundle: &Bundle(command::BUNDLE.into()),
        acceleration: config.acceleration,
        base: Base::Clone(nowhere()),
        base_mib: size.base_mib,
        growth_mib: size.room_mib,
        cpus: size.cpus,
        host_khz: None,
        agent_fd: 0,
        qmp_fd: 0,
        serial_fd: 0,
        kvm_fd: 0,
    })
}
