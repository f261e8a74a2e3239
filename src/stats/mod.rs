//! Folds attempts and outcomes into the figures of a report, in memory that does not grow with the number of rows.
//!
//! | file | what |
//! | --- | --- |
//! | `fold.rs` | [`Fold`]: a journal's records, then a live session's, into figures and course |
//! | `figures.rs` | [`Stats`]: counts, tokens and latencies |
//! | `course.rs` | [`Course`]: the same over time, for the pictures of the page |
//! | `versions.rs` | [`PredictorVersion`]: which rows were answered under which version of the predictor |
//! | `row_bytes.rs` | one byte for each row, for those who note something of it |
//! | `distribution.rs`, `times.rs` | percentiles of durations; sums of durations |
//! | `series.rs` | values over time in a bounded number of buckets |
//! | `rate.rs` | the smoothed rate that the progress shows |
//! | `speedup.rs` | how much faster one mode is than another, with its confidence interval |

mod course;
mod distribution;
mod figures;
mod fold;
mod rate;
mod row_bytes;
mod series;
mod speedup;
mod times;
mod versions;

pub(crate) use self::course::{Course, Moment, Span, latency_from};
pub(crate) use self::distribution::Distribution;
pub(crate) use self::figures::{AttemptCounts, Stats};
pub(crate) use self::fold::{Decided, Fold};
pub(crate) use self::rate::RowRate;
pub(crate) use self::speedup::{Speedup, mean, stddev};
pub(crate) use self::times::{LimitedTimes, TimeSums};
pub(crate) use self::versions::PredictorVersion;
