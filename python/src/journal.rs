//! Outcomes as a journal records them, and the names of their columns.

use pyo3::prelude::*;
use tokio_asyncio_bridge::job::outcomes;

/// The names of the columns that answers with these fields add to a table whose columns have the names `own`, and a
/// sentence for each name that was taken.
#[pyfunction]
pub(crate) fn answer_columns(own: Vec<String>, fields: Vec<String>) -> (Vec<String>, Vec<String>) {
    outcomes::answer_columns(&own, &fields)
}
