//! How a worker's process died, in words and as a judgement of its calls.

use std::fmt;
use std::sync::Arc;

/// The numbers of the signals that have names here. They are the same on all kinds of Linux machines, but for SIGBUS on
/// some that nobody uses for this.
const SIGNALS: [(i32, &str); 13] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (13, "SIGPIPE"),
    (15, "SIGTERM"),
    (24, "SIGXCPU"),
];

/// Signals that a process gets for what it did itself.
const ITS_OWN: [i32; 5] = [4, 6, 7, 8, 11];

/// How a process died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Death {
    /// It ended by itself, with this code.
    Exit(i32),
    /// A signal ended it.
    Signal(i32),
    /// Whoever looks after it says how, in words.
    Told {
        /// What follows "worker 2": `died on node-a: ...`.
        how: Arc<str>,
        /// Whether its end was seen. If not, it was not heard of for so long that it must have ended itself.
        is_seen: bool,
    },
    /// It was never made, for this reason.
    NotMade(Arc<str>),
    /// Somebody else has waited for it.
    Unknown,
}

impl Death {
    /// Whether what ran in the process caused the death. A SIGKILL may be that of an operator, or of a machine that is
    /// out of memory.
    pub(super) fn is_its_own(&self) -> bool {
        match self {
            Self::Exit(_) => true,
            Self::Signal(number) => ITS_OWN.contains(number),
            Self::Told { .. } | Self::NotMade(_) | Self::Unknown => false,
        }
    }

    /// Whether its end was seen.
    pub(super) fn is_seen(&self) -> bool {
        !matches!(self, Self::Told { is_seen: false, .. } | Self::NotMade(_))
    }
}

impl fmt::Display for Death {
    /// What follows "worker 2": `died (SIGSEGV)`, `exited (code 3)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exited (code {code})"),
            Self::Signal(number) => match SIGNALS.iter().find(|(one, _)| one == number) {
                Some((_, name)) => write!(f, "died ({name})"),
                None => write!(f, "died (signal {number})"),
            },
            Self::Told { how, .. } => f.write_str(how),
            Self::NotMade(reason) => write!(f, "could not be made: {reason}"),
            Self::Unknown => f.write_str("died"),
        }
    }
}
