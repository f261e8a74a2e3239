//! The answers file: the input's records, each with its row's outcome appended, projected from the journal and written
//! whole or not at all. Not the reports.

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

pub use audit::{Faults, Findings, Inspection};
pub use cell::TOLD;
pub use columns::Renamed;
pub use error::OutputError;
pub use project::{Projected, Projection};
pub use recognized::is_answers;
