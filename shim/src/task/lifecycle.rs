//! The life of a pod as two pure state machines: its machine's, and that of each process in it (a container's first one, an
//! exec, or the sandbox itself).
//!
//! ```text
//!          Boot            Booted         End
//!   Absent ────► Booting ────────► Up ────────► Ending
//!      │            │               │              │
//!      └────────────┴──── Ended ────┴──────────────┴───► Over
//!
//!             Start            Started              Pause
//!   Created ────────► Starting ───────► Running ◄────────► Paused
//!      │                 │                 │      Resume      │
//!      │ Kill            │ StartFailed     │ Exited           │ Exited
//!      ▼                 ▼                 ▼                  │
//!   Stopped ◄──────── Stopped           Stopped ◄─────────────┘
//!      │
//!      ▼ Delete (also from Created)
//!   gone
//! ```
//! The end of the machine is `Exited` for every process in it. The task service feeds what it is asked and what the guest
//! tells, and acts on the phase; nothing here waits, locks or calls.

use std::fmt;

/// Exit status of a process that was never started but killed: SIGKILL's.
pub const KILLED: u32 = 137;
/// Exit status of a process that could not be started, as runc reports it.
pub const NOT_STARTED: u32 = 128;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, or 128 + signal.
    pub status: u32,
    /// Nanoseconds since 1970, by the host's clock: the guest's may lie.
    pub at_ns: u64,
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Made, not started.
    Created,
    /// The guest was asked to start it.
    Starting,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It ended.
    Stopped(Exit),
    /// It was deleted.
    Gone,
}

/// What happens to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// containerd asks to start it.
    Start,
    /// The guest has started it.
    Started,
    /// The guest could not.
    StartFailed(u64),
    /// The guest, or the machine's end, says that it ended.
    Exited(Exit),
    /// It is to be killed before it was started.
    Kill(u64),
    /// It is frozen.
    Pause,
    /// It goes on.
    Resume,
    /// containerd asks to forget it.
    Delete,
}

/// Where the machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// There is none yet.
    Absent,
    /// It boots.
    Booting,
    /// It serves.
    Up,
    /// It was asked to end, and serves until it does.
    Ending,
    /// It ended; a pod has one machine and never another.
    Over,
}

/// What happens to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is to boot.
    Boot,
    /// Its agent has answered.
    Booted,
    /// It is to end.
    End,
    /// Its process ended, or never came to be.
    Ended,
}

/// The machine does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pod's virtual machine {0}")]
pub struct NoMachine(pub Machine);

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Machine::Absent => "is not there",
            Machine::Booting => "is booting",
            Machine::Up => "is there already",
            Machine::Ending => "is ending",
            Machine::Over => "has ended; the pod needs a new sandbox",
        })
    }
}

impl Machine {
    /// The next phase.
    ///
    /// # Errors
    /// If the turn does not fit.
    pub fn next(self, turn: Turn) -> Result<Machine, NoMachine> {
        Ok(match (self, turn) {
            (Machine::Absent, Turn::Boot) => Machine::Booting,
            (Machine::Booting, Turn::Booted) => Machine::Up,
            (Machine::Up | Machine::Ending, Turn::End) => Machine::Ending,
            (_, Turn::Ended) => Machine::Over,
            _ => return Err(NoMachine(self)),
        })
    }

    /// Whether anything can be asked of it.
    ///
    /// # Errors
    /// If not.
    pub fn serves(self) -> Result<(), NoMachine> {
        if matches!(self, Machine::Up | Machine::Ending) { Ok(()) } else { Err(NoMachine(self)) }
    }
}

/// What does not fit the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a process that is {phase} can't be {verb}")]
pub struct Refused {
    /// Where it is.
    pub phase: Phase,
    /// What was asked.
    pub verb: &'static str,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Created => "created",
            Phase::Starting => "being started",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Stopped(_) => "stopped",
            Phase::Gone => "deleted",
        })
    }
}

impl Phase {
    /// The next phase.
    ///
    /// # Errors
    /// If the input does not fit.
    pub fn next(self, input: Input) -> Result<Phase, Refused> {
        let refused = |verb| Err(Refused { phase: self, verb });
        Ok(match (self, input) {
            (Phase::Created, Input::Start) => Phase::Starting,
            (Phase::Starting, Input::Started) => Phase::Running,
            (Phase::Starting, Input::StartFailed(at_ns)) => Phase::Stopped(Exit { status: NOT_STARTED, at_ns }),
            (Phase::Created, Input::Kill(at_ns)) => Phase::Stopped(Exit { status: KILLED, at_ns }),
            (Phase::Starting | Phase::Running | Phase::Paused | Phase::Created, Input::Exited(exit)) => Phase::Stopped(exit),
            (Phase::Running, Input::Pause) => Phase::Paused,
            (Phase::Paused, Input::Resume) => Phase::Running,
            (Phase::Created | Phase::Stopped(_), Input::Delete) => Phase::Gone,
            (_, Input::Start | Input::Started | Input::StartFailed(_)) => return refused("started"),
            (_, Input::Exited(_)) => return refused("ended"),
            (_, Input::Kill(_)) => return refused("killed"),
            (_, Input::Pause) => return refused("paused"),
            (_, Input::Resume) => return refused("resumed"),
            (_, Input::Delete) => return refused("deleted"),
        })
    }

    /// How it ended, once it has.
    pub fn exit(self) -> Option<Exit> {
        match self {
            Phase::Stopped(exit) => Some(exit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TURNS: [Turn; 4] = [Turn::Boot, Turn::Booted, Turn::End, Turn::Ended];
    const EXIT: Exit = Exit { status: 7, at_ns: 1 };
    const PHASES: [Phase; 6] =
        [Phase::Created, Phase::Starting, Phase::Running, Phase::Paused, Phase::Stopped(EXIT), Phase::Gone];
    const INPUTS: [Input; 8] = [
        Input::Start,
        Input::Started,
        Input::StartFailed(1),
        Input::Exited(EXIT),
        Input::Kill(1),
        Input::Pause,
        Input::Resume,
        Input::Delete,
    ];

    fn any_input() -> impl Strategy<Value = Input> {
        (0..INPUTS.len(), 0..3u32).prop_map(|(which, status)| match INPUTS[which] {
            Input::Exited(_) => Input::Exited(Exit { status, at_ns: u64::from(status) }),
            other => other,
        })
    }

    proptest! {
        /// Whatever comes in whatever order, and then the machine's end: each process's end is told once, what was told is
        /// not taken back, and nothing lives on.
        #[test]
        fn every_order_of_events_ends_once(lives in proptest::collection::vec(proptest::collection::vec(any_input(), 0..24), 1..5)) {
            for inputs in lives {
                let (mut phase, mut told, mut started) = (Phase::Created, None, false);
                for input in inputs.into_iter().chain([Input::Exited(EXIT)]) {
                    let before = phase;
                    let Ok(next) = phase.next(input) else { continue };
                    prop_assert!(before != Phase::Gone, "{input:?} after the end");
                    started |= input == Input::Started;
                    prop_assert!(started || !matches!(next, Phase::Running | Phase::Paused));
                    if let Some(exit) = next.exit() {
                        prop_assert!(told.is_none(), "told twice: {told:?}, {exit:?}");
                        told = Some(exit);
                    }
                    phase = next;
                }
                prop_assert!(matches!(phase, Phase::Stopped(_) | Phase::Gone), "{phase} after the machine's end");
                prop_assert!(told.is_some() || (phase == Phase::Gone && !started), "an end was never told");
            }
        }

        /// A machine that is over stays so, boots once, and serves only between its first answer and its end.
        #[test]
        fn a_machine_lives_once(turns in proptest::collection::vec(0..TURNS.len(), 0..24)) {
            let (mut machine, mut boots) = (Machine::Absent, 0);
            for turn in turns.into_iter().map(|which| TURNS[which]) {
                let Ok(next) = machine.next(turn) else { continue };
                prop_assert!(machine != Machine::Over || next == Machine::Over);
                prop_assert!(next.serves().is_err() || machine.serves().is_ok() || turn == Turn::Booted);
                boots += u32::from(turn == Turn::Boot);
                machine = next;
            }
            prop_assert!(boots <= 1);
            prop_assert_eq!(machine.next(Turn::Ended), Ok(Machine::Over));
        }
    }

    #[test]
    fn a_life_goes_its_way() {
        let mut phase = Phase::Created;
        for input in [Input::Start, Input::Started, Input::Pause, Input::Resume, Input::Exited(EXIT)] {
            phase = phase.next(input).unwrap();
        }
        assert_eq!(phase.exit(), Some(EXIT));
        assert_eq!(phase.next(Input::Delete), Ok(Phase::Gone));
    }

    #[test]
    fn an_end_is_final_and_told_once() {
        for input in INPUTS {
            let next = Phase::Stopped(EXIT).next(input);
            assert!(next == Ok(Phase::Gone) || next.is_err(), "{input:?}");
            assert!(Phase::Gone.next(input).is_err(), "{input:?}");
        }
    }

    #[test]
    fn every_living_phase_can_end() {
        for phase in PHASES {
            let ends = phase.next(Input::Exited(EXIT)).is_ok();
            assert_eq!(ends, !matches!(phase, Phase::Stopped(_) | Phase::Gone), "{phase}");
        }
    }

    #[test]
    fn what_runs_is_not_deleted_or_started_again() {
        for phase in [Phase::Starting, Phase::Running, Phase::Paused] {
            assert!(phase.next(Input::Delete).is_err() && phase.next(Input::Start).is_err(), "{phase}");
        }
        let refused = Phase::Running.next(Input::Delete).unwrap_err();
        assert_eq!(refused.to_string(), "a process that is running can't be deleted");
    }

    #[test]
    fn what_was_never_started_ends_as_killed() {
        let stopped = Phase::Created.next(Input::Kill(3)).unwrap();
        assert_eq!(stopped.exit(), Some(Exit { status: KILLED, at_ns: 3 }));
        let failed = Phase::Starting.next(Input::StartFailed(4)).unwrap();
        assert_eq!(failed.exit(), Some(Exit { status: NOT_STARTED, at_ns: 4 }));
    }
}
