//! Writes a job's answers file from its journal.

use super::paths::JobPaths;
use crate::fs::Access;
use crate::input::{Format, Source};
use crate::journal::{Fields, Index};
use crate::output::{OutputError, Projected, Projection};

/// Writes the answers file from the journal.
pub(super) fn project(
    source: &Source,
    paths: &JobPaths,
    access: Access,
    index: &Index,
    fields: &Fields,
    cancelled: impl Fn() -> bool,
) -> Result<Projected, OutputError> {
    let projection = Projection {
        source,
        journal: &paths.journal,
        index,
        fields,
        destination: &paths.answers,
        format: Format::from_path(&paths.answers).unwrap_or(source.format),
        access,
    };
    projection.write(cancelled)
}
