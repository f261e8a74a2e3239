//! When to call, when to retry, when to stop: decisions without I/O and without a clock. Whoever asks tells the time.
//!
//! | file | what |
//! | --- | --- |
//! | `retry.rs` | whether a failed attempt is retried, and after how long |
//! | `pace.rs` | how many calls may be in flight while the server answers with 429 |
//! | `breaker.rs` | when an outage is assumed, how it is probed, when it is given up |
//! | `rate.rs` | `--rpm` and `--tpm` |
//! | `budget.rs` | `--max-cost` and `--max-total-tokens` |
//! | `limits.rs` | `--max-failures`, and the guard against a broken predictor |
//! | `stop.rs` | the reasons to stop a run, and their order |

pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod limits;
pub(crate) mod pace;
pub(crate) mod rate;
pub(crate) mod retry;
pub(crate) mod stop;
