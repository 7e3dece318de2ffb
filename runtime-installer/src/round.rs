//! One round on the node: unpack, prove, register, tidy; every failure becomes a reason for people.
//!
//! Input: the SandboxRuntime and the node's mounted root. Output: an [`Outcome`] for the NodeRuntime. The canary runs
//! before containerd is touched: a node that cannot run VMs is never restarted for them.

use crate::canary::{self, Answer};
use crate::containerd::Runtime;
use crate::handler::{self, Acceleration};
use crate::register::{Node, below, write};
use crate::status::{Outcome, PASSED};
use crate::templates::Templating;
use crate::{bundle, host, versions};
use anyhow::Context;
use freehold_crds::{Emulation, SandboxRuntime, Templates};
use std::path::Path;
use std::time::Duration;

/// Time for a VM to answer with KVM; one takes well under a second, and a hanging /dev/kvm must not block the node.
const KVM_SECONDS: u64 = 20;
/// Time for an emulated VM on a busy node.
const TCG_SECONDS: u64 = 90;
/// Time on top of the shim's own limit, after which it is killed.
const CANARY_MARGIN: Duration = Duration::from_secs(5);

/// Does everything once.
pub async fn run(node: &Node, image: &Path, runtime: &SandboxRuntime) -> Outcome {
    let (reason, message) = ("InstallFailed", String::new());
    let mut outcome =
        Outcome { containerd: None, version: None, canary: None, templates: None, in_use: Vec::new(), reason, message };
    if let Err(error) = steps(node, image, runtime, &mut outcome).await {
        outcome.message = format!("{error:#}");
    }
    outcome
}

async fn steps(node: &Node, image: &Path, runtime: &SandboxRuntime, outcome: &mut Outcome) -> anyhow::Result<()> {
    let options = runtime.spec.micro_vm.as_ref().context("the SandboxRuntime has no spec.microVM, so nothing is installed")?;
    let name = runtime.spec.runtime_class.name.clone();
    let memory = match &options.default_memory {
        None => handler::DEFAULT_MEMORY_MIB,
        Some(quantity) => handler::mebibytes(&quantity.0)
            .with_context(|| format!("spec.microVM.defaultMemory {:?} is not usable; write for example 256Mi", quantity.0))?,
    };
    let (versions, image) = (below(&node.root, &handler::bundle_path("")), image.to_owned());
    let version = tokio::task::spawn_blocking(move || bundle::install(&image, &versions, bundle::disks)).await??;
    outcome.version = Some(version.clone());

    let proved = canary::prove(options.emulation == Some(Emulation::Allow), |acceleration| {
        boot(node, &name, &version, acceleration, memory)
    })
    .await;
    let answer = match proved {
        Ok(answer) => answer,
        Err(unproved) => {
            (outcome.reason, outcome.message) = (unproved.reason, unproved.message);
            return Ok(());
        }
    };
    let templates = options.templates == Some(Templates::PerTenant);
    let text = handler::config(&version, answer.acceleration, memory, templates)?;
    write(&below(&node.root, &handler::config_path(&name)), &text)?;

    outcome.reason = "RegistrationFailed";
    let registered_config = handler::config_path(&name);
    for (place, target) in handler::links(&version, &name) {
        link(&below(&node.root, &place), Path::new(&target))?;
    }
    let program = handler::program_path(&version, &name);
    let registered = Runtime { shim: handler::shim_path(&version), program, config: registered_config.clone(), handler: name };
    outcome.containerd = Some(node.register(&registered).await?);
    outcome.message = format!("a VM answered in {} ms", answer.start_milliseconds);
    outcome.canary = Some(answer);
    outcome.reason = PASSED;
    let (root, current) = (node.root.clone(), version.clone());
    let tidied = tokio::task::spawn_blocking(move || versions::tidy(&root, Path::new("/proc"), &current)).await;
    match tidied.map_err(Into::into).flatten() {
        Ok(in_use) => outcome.in_use = in_use,
        // The node runs machines all the same; the next round tries again.
        Err(error) => tracing::warn!("old versions are not removed: {error:#}"),
    }
    outcome.templates = templates.then(|| Templating { shim: handler::shim_path(&version), config: registered_config });
    Ok(())
}

/// Makes a link, unless it is there. Anything else in its place is an error.
fn link(place: &Path, target: &Path) -> anyhow::Result<()> {
    if std::fs::read_link(place).is_ok_and(|there| there == target) {
        return Ok(());
    }
    let made = std::fs::create_dir_all(place.parent().unwrap_or(place)).and_then(|()| std::os::unix::fs::symlink(target, place));
    made.with_context(|| format!("could not make the link {}", place.display()))
}

/// Boots one VM on the node, with a configuration beside the one in force.
async fn boot(node: &Node, name: &str, version: &str, acceleration: Acceleration, memory: u32) -> anyhow::Result<Answer> {
    let config = handler::config_path(&format!(".{name}.canary"));
    write(&below(&node.root, &config), &handler::config(version, acceleration, memory, false)?)?;
    let seconds = if acceleration == Acceleration::Kvm { KVM_SECONDS } else { TCG_SECONDS };
    let (shim, limit) = (handler::shim_path(version), seconds.to_string());
    let command = [shim.as_str(), "canary", "--config", &config, "--timeout-seconds", &limit];
    let said = host::run(&command, Duration::from_secs(seconds) + CANARY_MARGIN).await?;
    canary::parse(&said, acceleration)
}
