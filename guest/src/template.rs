//! Templates: a machine that is held before its first words, and clones of it that are woken.
//!
//! All clones begin with the same memory. Before anything else a clone gets random bytes and the clock, and the agent executes
//! itself anew: its own addresses, stack canary and hash seeds are then this clone's alone. Until that is done nothing is
//! answered, so a clone that was not woken runs no workload, whatever the shim forgets.
//!
//! The kernel's own base address (KASLR), its slab cookies and the seed of IP identifiers stay those of the template.

use crate::configure;
use crate::fail::{Failure, Result, Step};
use crate::port::Port;
use freehold_guest_api::message::{Call, Wake};
use std::convert::Infallible;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// First argument of an agent that was executed anew.
const AWAKE: &str = "awake";

/// How far a machine has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Booted or woken; nothing was said yet.
    Fresh,
    /// Held for a template, or a clone of one that was not woken.
    Held,
    /// It has its first words.
    Configured,
}

impl Stage {
    /// Whether a request may be answered now.
    pub fn admits(self, call: &Call) -> Result<()> {
        match (self, call) {
            (Stage::Fresh, Call::Configure(_) | Call::Hold(_)) | (Stage::Held, Call::Wake(_)) => Ok(()),
            (Stage::Held, _) => Err(Failure::refuse("this is a template's memory: a clone must be woken before anything else")),
            (Stage::Fresh, _) => Err(Failure::refuse("Configure must be the first request")),
            (Stage::Configured, Call::Configure(_) | Call::Hold(_) | Call::Wake(_)) => {
                Err(Failure::refuse("the machine is configured already: this is for its first words alone"))
            }
            (Stage::Configured, _) => Ok(()),
        }
    }
}

/// Makes the clone its own; does not return unless it fails. The next image answers request `id`.
pub fn wake(wake: &Wake, port: &Port, id: u64) -> Result<Infallible> {
    if !port.is_idle() {
        return Err(Failure::refuse("a clone was asked for something else before it was awake"));
    }
    configure::reseed(&wake.entropy, wake.realtime_ns)?;
    port.keep_on_exec()?;
    // Where the initramfs was is covered by the agent's own root; the kernel still knows the program.
    let error = Command::new("/proc/self/exe").arg(AWAKE).arg(port.fd().to_string()).arg(id.to_string()).exec();
    Err(error).step("execute the agent anew")
}

/// What an agent that was executed anew was told: its port, and the request that it answers.
pub fn awake(arguments: &[String]) -> Option<(RawFd, u64)> {
    match arguments {
        [word, port, id] if word == AWAKE => Some((port.parse().ok()?, id.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_guest_api::message::{Configure, Empty};

    #[test]
    fn a_clone_answers_nothing_before_it_is_awake() {
        let (hold, wake) = (Call::Hold(Empty {}), Call::Wake(Wake::default()));
        let (configure, other) = (Call::Configure(Configure::default()), Call::Shutdown(Empty {}));
        for (stage, call, admitted) in [
            (Stage::Fresh, &hold, true),
            (Stage::Fresh, &configure, true),
            (Stage::Fresh, &wake, false),
            (Stage::Fresh, &other, false),
            (Stage::Held, &wake, true),
            (Stage::Held, &hold, false),
            (Stage::Held, &configure, false),
            (Stage::Held, &other, false),
            (Stage::Configured, &other, true),
            (Stage::Configured, &hold, false),
            (Stage::Configured, &wake, false),
            (Stage::Configured, &configure, false),
        ] {
            assert_eq!(stage.admits(call).is_ok(), admitted, "{stage:?} {call:?}");
        }
    }

    #[test]
    fn what_the_next_image_is_told_is_read() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(awake(&words("awake 5 7")), Some((5, 7)));
        for other in ["", "awake", "awake x 7", "awake 5 -1", "quiet 5 7"] {
            assert_eq!(awake(&words(other)), None, "{other}");
        }
    }
}
