//! Why a step failed: the errno and words for the person who reads the pod's events.
//!
//! Every module returns this one type, because every failure takes the same way out: an `Error` answer to the shim.

use freehold_guest_api::message;
use std::fmt::Display;
use std::io;

/// A failed step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// `errno`, or 0.
    pub errno: i32,
    /// The step, on what, and why.
    pub message: String,
}

/// What every step returns.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A refusal that is no failed system call.
    pub fn refuse(message: impl Into<String>) -> Failure {
        Failure { errno: libc::EINVAL, message: message.into() }
    }
    /// A refusal with its own errno.
    pub fn with(errno: i32, message: impl Into<String>) -> Failure {
        Failure { errno, message: message.into() }
    }
}

impl From<Failure> for message::Error {
    fn from(failure: Failure) -> Self {
        message::Error { errno: failure.errno, message: failure.message }
    }
}

/// Names the step at which an [`io::Error`] came up.
pub trait Step<T> {
    /// Turns the error into a [`Failure`] that says `what` failed.
    fn step(self, what: impl Display) -> Result<T>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, what: impl Display) -> Result<T> {
        self.map_err(|error| Failure { errno: error.raw_os_error().unwrap_or(libc::EIO), message: format!("{what}: {error}") })
    }
}

impl<T> Step<T> for Result<T> {
    fn step(self, what: impl Display) -> Result<T> {
        self.map_err(|failure| Failure { errno: failure.errno, message: format!("{what}: {}", failure.message) })
    }
}
