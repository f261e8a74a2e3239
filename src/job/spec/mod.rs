//! What a job is, as plain data: [`JobSpec`]. The journal keeps it, so that `resume` goes on from it.
//!
//! A [`Patch`] is the same with every leaf optional. Flags, variables and keywords make one, and [`JobSpec::lay`] lays it
//! over a spec: over the defaults for a new job, over the recorded one for an earlier job.

mod bounds;
mod earlier;
mod group;
mod identity;
mod lm;
mod output;
mod pace;
mod predictor;
mod rows;
#[cfg(test)]
mod tests;
pub(crate) mod values;
mod whole;
mod words;

pub use self::bounds::{
    CutOffChoice, MoneyPatch, MoneySpec, RetryPatch, RetrySpec, StopPatch, StopSpec, TimePatch, TimeSpec,
};
pub use self::earlier::{of_header, settings};
pub use self::identity::{FieldDifference, Identity};
pub use self::lm::{ApiBase, LmArguments, is_key};
pub use self::output::{AccessPatch, AccessSpec, FieldPatch, FieldSpec, PagePatch, PageSpec};
pub use self::pace::{Mode, PacePatch, PaceSpec, RatePatch, RateSpec};
pub use self::predictor::{LoopChoice, PredictorPatch, PredictorSpec};
pub use self::rows::{FormatChoice, RowPatch, RowSpec};
pub use self::values::FieldNames;
pub use self::whole::{JobSpec, Patch, WholePatch};
