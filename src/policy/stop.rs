//! The reasons to stop a run before all rows are finished, and which of them prevails.

use std::sync::Arc;
use std::time::Duration;

use crate::error::BridgeError;

/// A signal that stops the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP.
    Hangup,
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Why no more calls are made.
#[derive(Debug, Clone, PartialEq)]
pub enum StopReason {
    /// An error that every row would get, such as a refused key or an exhausted quota.
    Fatal {
        /// The class and the text of the error.
        error: String,
        /// Whether it is a 403, which need not be about the key.
        forbidden: bool,
    },
    /// The server has answered no call of this session, or none for a long time.
    Unreachable {
        /// The class and the text of the last error.
        error: String,
        /// For how long every call has timed out; `None` if no call was ever answered.
        silent_for: Option<Duration>,
        /// Whether the last call timed out.
        hangs: bool,
        /// Whether the server can be reached: it took the last call and failed it.
        answers: bool,
    },
    /// The first finished rows all failed with the same class.
    Broken {
        /// How many rows.
        rows: u64,
        /// Their class.
        class: Arc<str>,
        /// The text of the last error.
        error: String,
    },
    /// `--max-failures` was reached.
    MaxFailures {
        /// Failed rows.
        failed: u64,
        /// Finished rows.
        finished: u64,
    },
    /// `--max-cost` leaves no room for a call.
    MaxCost {
        /// What was spent, in US dollars.
        spent: f64,
        /// The mean cost of a call, in US dollars.
        a_call: f64,
        /// Calls that reported nothing but may be billed; each is budgeted at the mean.
        untold: u64,
        /// The bound, in US dollars.
        max: f64,
    },
    /// `--max-total-tokens` leaves no room for a call.
    MaxTokens {
        /// Tokens used, in and out.
        spent: u64,
        /// The mean number of tokens a call.
        a_call: u64,
        /// Calls that reported nothing but may be billed; each is budgeted at the mean.
        untold: u64,
        /// The bound, in tokens.
        max: u64,
    },
    /// More calls than the concurrency ignored their cancellation and are still running.
    Abandoned {
        /// How many calls.
        calls: usize,
    },
    /// `--deadline` has passed.
    Deadline,
    /// The cluster that made the calls is gone.
    ClusterLost,
    /// A signal was received.
    Signal(Signal),
    /// The bridge to the predictor failed.
    Bridge(BridgeError),
    /// The task of a row panicked.
    Panicked {
        /// The row.
        row: u64,
        /// The message of the panic.
        text: String,
    },
    /// The input has changed or cannot be read any further, or the journal cannot be written.
    Failed(String),
}

impl StopReason {
    /// The exit code of the process (`docs/contract.md`, "Exit codes"). After 4 the same command would stop again; after
    /// 5 it may finish the job.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bridge(_) | Self::Panicked { .. } | Self::Failed(_) => 1,
            Self::Signal(Signal::Hangup) => 129,
            Self::Signal(Signal::Interrupt) => 130,
            Self::Signal(Signal::Terminate) => 143,
            Self::Fatal { .. }
            | Self::Broken { .. }
            | Self::MaxFailures { .. }
            | Self::MaxCost { .. }
            | Self::MaxTokens { .. }
            | Self::Abandoned { .. } => 4,
            Self::Unreachable { .. } | Self::Deadline | Self::ClusterLost => 5,
        }
    }

    /// The message. `outage` is the last error of an outage during which the run stopped, which the message then names.
    pub fn told(&self, outage: Option<&str>) -> String {
        let text = self.to_string();
        let names_it = matches!(self, Self::Unreachable { .. } | Self::Fatal { .. } | Self::Broken { .. });
        let Some(error) = outage.filter(|_| !names_it) else { return text };
        let (why, hint) =
            text.rsplit_once("\nhint: ").map_or((&*text, None), |(why, hint)| (why, Some(hint)));
        // The text of an error may have lines that look like a hint.
        let error = error.replace(['\n', '\r'], " ");
        let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        format!("{why}; the last call failed: {error}{hint}")
    }

    fn weight(&self) -> u8 {
        match self.exit_code() {
            1 => 3,
            4 => 1,
            5 => 0,
            _ => 2,
        }
    }

    /// Whether this reason replaces one that already stops the run.
    pub fn outweighs(&self, other: &Self) -> bool {
        self.weight() > other.weight()
    }
}

impl From<BridgeError> for StopReason {
    fn from(error: BridgeError) -> Self {
        match error {
            BridgeError::ClusterLost => Self::ClusterLost,
            BridgeError::InterpreterGone
            | BridgeError::LoopStopped
            | BridgeError::HandoverStuck
            | BridgeError::NoWorkers => Self::Bridge(error),
        }
    }
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fatal { error, forbidden } => {
                write!(f, "this error affects every row: {error}")?;
                f.write_str(if *forbidden {
                    "\nhint: may the key use this model? where only these rows are refused, run others first (`--range`)"
                } else {
                    ""
                })
            }
            Self::Unreachable { error, silent_for, hangs, answers } => {
                match silent_for {
                    None if *answers => {
                        f.write_str(
                            "no call has been answered in this session; the server fails each of them: ",
                        )?;
                    }
                    None => f.write_str(
                        "no call has been answered in this session, and the server cannot be reached: ",
                    )?,
                    Some(time) => {
                        let minutes = time.as_secs() / 60;
                        write!(f, "every call has timed out for {minutes} minutes: ")?;
                    }
                }
                f.write_str(error)?;
                f.write_str(if *hangs {
                    "\nhint: is `--timeout` too short for an answer, or does the server hang? `resume` goes on, also with another `--timeout`"
                } else if *answers {
                    "\nhint: is `--api-base` right? `resume` goes on once the server works"
                } else {
                    "\nhint: is it running, and is `--api-base` right? `resume` goes on once it is"
                })
            }
            Self::Broken { rows, class, error } => {
                write!(f, "the first {rows} finished rows all failed with `{class}`; the last: {error}")?;
                if &**class == "timeout" {
                    f.write_str("\nhint: is `--timeout` too short for an answer?")?;
                }
                Ok(())
            }
            Self::MaxFailures { failed, finished } => {
                write!(f, "{failed} of {finished} finished rows failed")
            }
            Self::MaxCost { spent, a_call, untold, max } => {
                let (spent, a_call) = (three_digits(*spent), three_digits(*a_call));
                write!(
                    f,
                    "${spent} of `--max-cost {max}` spent, no room for a call of ${a_call}{}\nhint: `resume --max-cost {}` goes on; any higher bound will do",
                    taken(*untold, &format!("${a_call}")),
                    2.0 * max
                )
            }
            Self::MaxTokens { spent, a_call, untold, max } => write!(
                f,
                "{spent} of `--max-total-tokens {max}` used, no room for a call of {a_call}{}\nhint: `resume --max-total-tokens {}` goes on; any higher bound will do",
                taken(*untold, &a_call.to_string()),
                max.saturating_mul(2)
            ),
            Self::Abandoned { calls } => {
                write!(f, "{calls} calls ignore their cancellation and are still running")
            }
            Self::Deadline => f.write_str("the deadline has passed"),
            Self::ClusterLost => {
                f.write_str("the cluster is lost\nhint: `resume` goes on, with or without `--ray`")
            }
            Self::Signal(Signal::Hangup) => f.write_str("hung up (SIGHUP)"),
            Self::Signal(Signal::Interrupt) => f.write_str("interrupted (SIGINT)"),
            Self::Signal(Signal::Terminate) => f.write_str("terminated (SIGTERM)"),
            Self::Bridge(error @ BridgeError::NoWorkers) => {
                write!(f, "{error}\nhint: mend what the warning before tells; then `resume` goes on")
            }
            Self::Bridge(error) => error.fmt(f),
            Self::Panicked { row, text } => write!(
                f,
                "internal error: the task of row {row} panicked: {text}\nhint: this is a fault of the program, not of the row; please report it; `resume` calls the row again"
            ),
            Self::Failed(error) => f.write_str(error),
        }
    }
}

/// Mentions the calls that reported nothing and are budgeted at the mean, if there are any.
fn taken(untold: u64, a_call: &str) -> String {
    match untold {
        0 => String::new(),
        1 => format!("; 1 call that did not report what it used is taken as {a_call}"),
        _ => format!("; {untold} calls that did not report what they used are taken as {a_call} each"),
    }
}

/// An amount of dollars with at least two decimals, and three significant digits if it is less than a cent.
fn three_digits(dollars: f64) -> String {
    let decimals = if dollars > 0.0 { (2.0 - dollars.log10().floor()).clamp(2.0, 9.0) } else { 2.0 };
    format!("{dollars:.*}", decimals as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reason of each kind, from the weightiest code to the lightest.
    fn reasons() -> Vec<(u8, StopReason)> {
        let error = || "as the test says".to_owned();
        let unreachable =
            |hangs, answers| StopReason::Unreachable { error: error(), silent_for: None, hangs, answers };
        vec![
            (1, StopReason::Bridge(BridgeError::LoopStopped)),
            (1, StopReason::from(BridgeError::NoWorkers)),
            (1, StopReason::Panicked { row: 0, text: error() }),
            (1, StopReason::Failed(error())),
            (129, StopReason::Signal(Signal::Hangup)),
            (130, StopReason::Signal(Signal::Interrupt)),
            (143, StopReason::Signal(Signal::Terminate)),
            (4, StopReason::Fatal { error: error(), forbidden: false }),
            (4, StopReason::Fatal { error: error(), forbidden: true }),
            (4, StopReason::Broken { rows: 20, class: "ValueError".into(), error: error() }),
            (4, StopReason::MaxFailures { failed: 1, finished: 1 }),
            (4, StopReason::MaxCost { spent: 1.0, a_call: 0.1, untold: 0, max: 1.0 }),
            (4, StopReason::MaxTokens { spent: 10, a_call: 1, untold: 0, max: 10 }),
            (4, StopReason::Abandoned { calls: 3 }),
            (5, unreachable(false, false)),
            (5, unreachable(true, false)),
            (5, unreachable(false, true)),
            (5, StopReason::Deadline),
            (5, StopReason::from(BridgeError::ClusterLost)),
        ]
    }

    #[test]
    fn every_reason_has_its_exit_code() {
        for (code, reason) in reasons() {
            assert_eq!(reason.exit_code(), code, "{reason:?}");
        }
    }

    #[test]
    fn the_contracts_order_decides_between_reasons_and_among_equals_the_first_one() {
        let order = |code: u8| match code {
            1 => 0,
            129.. => 1,
            code => code - 2,
        };
        for (code, reason) in reasons() {
            for (other_code, other) in reasons() {
                assert_eq!(
                    reason.outweighs(&other),
                    order(code) < order(other_code),
                    "{reason:?} and {other:?}"
                );
            }
        }
    }
}
