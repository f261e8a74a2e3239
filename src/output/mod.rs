//! The answers file: the records of the input, each with the outcome of its row, which comes from the journal. The file
//! is written whole or not at all.
//!
//! | file | what |
//! | --- | --- |
//! | `project.rs` | [`Projection`]: writes the file |
//! | `blocks.rs` | the records of the rows that were asked for, one by one or in blocks |
//! | `block_writer.rs` | makes the records of the answers for a block |
//! | `ordered_pool.rs` | works on blocks in several threads and keeps their order |
//! | `input_columns.rs` | takes these records apart, for output in the other format |
//! | `columns.rs`, `cell.rs` | the names of the columns; the value of one |
//! | `encoder.rs`, `csv.rs`, `jsonl.rs` | records in either format |
//! | `audit.rs` | compares a file with its input and its journal |
//! | `recognized.rs` | tells an answers file from other files |
//! | `error.rs` | what can go wrong |

mod audit;
mod block_writer;
mod blocks;
mod cell;
mod columns;
mod csv;
mod encoder;
mod error;
mod input_columns;
mod jsonl;
mod ordered_pool;
mod project;
mod recognized;
#[cfg(test)]
mod tests;

pub use audit::Findings;
pub(crate) use audit::Inspection;
pub(crate) use cell::TOLD;
pub(crate) use columns::added as added_columns;
pub(crate) use error::OutputError;
pub(crate) use project::{Projected, Projection};
pub(crate) use recognized::is_answers;
