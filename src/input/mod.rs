//! Reads the rows: strict CSV and JSONL, validated whole before the first paid call. Not for writing them back.
//!
//! [`Records`] alone splits a file into records. [`validate()`], [`Rows`] and the projection of the answers all walk it,
//! so they cannot disagree about which record is which.

mod arguments;
mod binding;
mod csv;
mod delimiter;
mod encoding;
mod error;
mod hint;
mod jsonl;
mod records;
mod rows;
mod source;
mod splitter;
mod types;
mod validate;

#[cfg(test)]
mod tests;

pub use self::binding::{Binding, Bound, Parameter, Presence, Wanted};
pub use self::csv::fields;
pub use self::error::{Fault, InputError, Unfit};
pub use self::jsonl::{Entries, entries};
pub use self::records::{Header, Record, Records};
pub use self::rows::Rows;
pub use self::source::{Format, Source};
pub use self::types::{Kind, Misfit, TypedValue, Types};
pub use self::validate::{Validated, Warning, glance, validate, validate_typed};
