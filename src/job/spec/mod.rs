//! A job as plain data: [`JobSpec`]. The journal keeps it, and `resume` starts from it.
//!
//! A [`Patch`] has the same options, each of them optional. Flags and environment variables make a patch, and
//! [`JobSpec::lay`] lays it over a spec: over the defaults for a new job, over the recorded spec for an earlier one.

mod bounds;
mod earlier;
mod group;
mod identity;
mod keywords;
mod lm;
mod output;
mod pace;
mod predictor;
mod ray;
mod rows;
pub(in crate::job) mod shard;
#[cfg(test)]
mod tests;
pub(crate) mod values;
mod whole;
mod words;
mod workers;

pub use self::bounds::{
    CutOffChoice, MoneyPatch, MoneySpec, RetryPatch, RetrySpec, StopPatch, StopSpec, TimePatch, TimeSpec,
};
pub use self::earlier::{of_header, settings};
pub use self::identity::{FieldDifference, Identity};
pub use self::keywords::{KeywordError, argv, keyword, keywords};
pub use self::lm::{ApiBase, LmArguments};
pub use self::output::{AccessPatch, AccessSpec, FieldPatch, FieldSpec, PagePatch, PageSpec};
pub use self::pace::{Mode, PacePatch, PaceSpec, RatePatch, RateSpec};
pub(in crate::job) use self::predictor::file_of;
pub use self::predictor::{LoopChoice, PredictorPatch, PredictorSpec};
pub use self::ray::{RayAddress, RayPatch, RaySpec};
pub use self::rows::{FormatChoice, RowPatch, RowSpec};
pub use self::values::FieldNames;
pub(in crate::job) use self::whole::lacking;
pub use self::whole::{JobSpec, Patch, WholePatch};
pub use self::workers::{Size, WorkerCount, WorkerPatch, WorkerSpec};
