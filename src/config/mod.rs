//! What the user asked for, validated: options and environment become the values a run needs. Not the run itself.

pub mod options;
pub mod paths;
mod values;

pub use options::{Mode, PredictorOptions, RowOptions};
