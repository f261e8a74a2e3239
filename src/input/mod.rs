//! Reads rows from CSV and JSONL files, strictly: the whole file is validated before the first call is paid for.
//!
//! | file | what |
//! | --- | --- |
//! | `source.rs` | [`Source`]: which file, and how to read it |
//! | `open.rs` | opens it; the format by its name, the delimiter by its first line |
//! | `encoding.rs` | turns its bytes into UTF-8 |
//! | `splitter.rs` | cuts the bytes into records and counts lines |
//! | `records.rs` | [`Records`]: the header and the data records, one at a time |
//! | `csv.rs`, `jsonl.rs` | the fields of a CSV record; the entries of a JSON object |
//! | `delimiter.rs` | which bytes can separate fields |
//! | `binding.rs` | `Binding`: which column becomes which argument |
//! | `arguments.rs` | makes the arguments of a call from a record |
//! | `types.rs` | checks values against the types of the parameters, on another thread |
//! | `validate.rs` | [`validate()`]: refuses a faulty file, or says how to run it |
//! | `rows.rs` | [`RowSource`] and [`RowReader`]: the rows of a session |
//! | `feed.rs` | [`Feed`]: rows that somebody hands in while the run goes on |
//! | `fault.rs`, `hint.rs`, `error.rs` | what can be wrong; what mends it; [`InputError`], which says both |
//!
//! Only [`Records`] splits a file into records. Validation, rows and the projection of the answers all read through it,
//! so they cannot disagree about which record is which.

mod arguments;
mod binding;
mod csv;
mod delimiter;
mod encoding;
mod error;
mod fault;
mod feed;
mod hint;
mod jsonl;
mod open;
mod records;
mod rows;
mod source;
mod splitter;
mod types;
mod validate;

#[cfg(test)]
mod tests;

pub use self::binding::{Parameter, Wanted};
pub use self::csv::fields;
pub use self::error::InputError;
pub use self::feed::Feed;
pub use self::jsonl::entries;
pub use self::records::Records;
pub use self::source::{Format, Source};
pub use self::validate::{validate, validate_until};

pub(crate) use self::fault::Fault;
pub(crate) use self::feed::FedRows;
pub(crate) use self::records::RawRecord;
pub(crate) use self::rows::{NextRow, RowReader, RowSource};
pub(crate) use self::types::{Kind, Misfit, TypedValue, Types};
pub(crate) use self::validate::{Validated, glance};
