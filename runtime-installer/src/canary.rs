//! Proves that a VM runs on this node, and decides with which acceleration.
//!
//! Input: the shim's `canary` answer for a configuration. [`crate::round`] writes the proved acceleration into the
//! handler's file; the shim never probes. KVM is tried first; emulation only where the SandboxRuntime allows it,
//! because it is slow enough to surprise. A /dev/kvm that opens and then hangs fails by the time limit, like a missing one.

use crate::handler::Acceleration;
use serde::Deserialize;
use std::future::Future;

/// What a canary VM said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The guest's kernel release.
    pub kernel_release: String,
    /// What the shim really ran with.
    pub acceleration: Acceleration,
    /// From the start of QEMU to the guest agent's answer.
    pub start_milliseconds: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    kernel_release: String,
    acceleration: String,
    start_milliseconds: u64,
}

/// Parses the canary's one line; it must have run with what was asked for.
pub fn parse(text: &str, asked: Acceleration) -> anyhow::Result<Answer> {
    let line: Line = serde_json::from_str(text.trim()).map_err(|error| {
        anyhow::anyhow!("the canary's answer is not understood ({error}); shim and installer differ in version")
    })?;
    let acceleration = match line.acceleration.to_ascii_lowercase().as_str() {
        "kvm" => Acceleration::Kvm,
        "tcg" => Acceleration::Tcg,
        other => anyhow::bail!("the canary says it ran with {other:?}; shim and installer differ in version"),
    };
    anyhow::ensure!(acceleration == asked, "the canary ran with {acceleration:?} although {asked:?} was asked for");
    Ok(Answer { kernel_release: line.kernel_release, acceleration, start_milliseconds: line.start_milliseconds })
}

/// Why no VM runs here: a condition's reason and its message.
#[derive(Debug, PartialEq, Eq)]
pub struct Unproved {
    /// The condition's reason.
    pub reason: &'static str,
    /// What happened and what to do.
    pub message: String,
}

/// KVM first, then emulation if it is allowed. `boot` runs one canary.
pub async fn prove<B, F>(allow_emulation: bool, mut boot: B) -> Result<Answer, Unproved>
where
    B: FnMut(Acceleration) -> F,
    F: Future<Output = anyhow::Result<Answer>>,
{
    let kvm = match boot(Acceleration::Kvm).await {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    if !allow_emulation {
        let message = format!(
            "no VM starts with KVM here: {kvm:#}. Enable virtualisation in the firmware, or nested virtualisation on the \
             machine below, and load kvm_intel or kvm_amd; or accept slow emulation with spec.microVM.emulation: Allow."
        );
        return Err(Unproved { reason: "KVMUnusable", message });
    }
    boot(Acceleration::Tcg).await.map_err(|tcg| Unproved {
        reason: "CanaryFailed",
        message: format!(
            "no VM starts here, with KVM: {kvm:#}; emulated: {tcg:#}. The shim's message names the step that failed."
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(acceleration: Acceleration) -> Answer {
        Answer { kernel_release: "6.12".to_owned(), acceleration, start_milliseconds: 1 }
    }

    async fn run(allow: bool, works: &[Acceleration]) -> (Result<Answer, Unproved>, Vec<Acceleration>) {
        let mut tried = Vec::new();
        let proved = prove(allow, |acceleration| {
            tried.push(acceleration);
            let result = if works.contains(&acceleration) { Ok(answer(acceleration)) } else { Err(anyhow::anyhow!("it hung")) };
            async move { result }
        })
        .await;
        (proved, tried)
    }

    #[tokio::test]
    async fn kvm_first_then_emulation_only_where_allowed() {
        use Acceleration::{Kvm, Tcg};
        assert_eq!(run(true, &[Kvm, Tcg]).await, (Ok(answer(Kvm)), vec![Kvm]));
        assert_eq!(run(true, &[Tcg]).await, (Ok(answer(Tcg)), vec![Kvm, Tcg]));
        let (refused, tried) = run(false, &[Tcg]).await;
        let refused = refused.unwrap_err();
        assert_eq!((refused.reason, tried), ("KVMUnusable", vec![Kvm]));
        assert!(refused.message.contains("it hung") && refused.message.contains("emulation: Allow"), "{}", refused.message);
        assert_eq!(run(true, &[]).await.0.unwrap_err().reason, "CanaryFailed");
    }

    #[test]
    fn answers() {
        let line = r#"{"kernelRelease":"6.12.41","bootId":"x","acceleration":"tcg","startMilliseconds":900}"#;
        assert_eq!(parse(line, Acceleration::Tcg).unwrap().start_milliseconds, 900);
        assert!(parse(line, Acceleration::Kvm).unwrap_err().to_string().contains("was asked for"));
        assert!(parse("oops", Acceleration::Kvm).is_err());
    }
}
