//! The comparison as a Markdown table, for issues and pages.

use std::fmt::Write as _;
use std::path::Path;

use super::{Comparison, table::a_run};
use crate::report::text::{escape, figure};

const HEADER: &str =
    "| Mode | Wall (mean ± σ) | Rows/s | In flight | Calls | Failed | Speedup (95 % confidence) | Ideal |";

/// Whether the file holds such a table.
pub(crate) fn is_ours(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|text| text.starts_with(HEADER.as_bytes()))
}

impl Comparison {
    /// Formats the comparison as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("{HEADER}\n|:---|---:|---:|---:|---:|---:|---:|---:|\n");
        for mode in &self.modes {
            let speedup = mode.speedup.map_or_else(
                || "1".to_owned(),
                |speedup| match speedup.ci95 {
                    Some([low, high]) => {
                        format!("{} ({} to {})", figure(speedup.mean), figure(low), figure(high))
                    }
                    None => figure(speedup.mean),
                },
            );
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} | {speedup} | {} |",
                escape(&mode.name),
                mode.wall(),
                figure(mode.rows_per_s),
                figure(mode.in_flight_mean),
                a_run(mode.attempts),
                a_run(mode.failed),
                mode.ideal_speedup.map_or_else(|| "1".to_owned(), figure)
            );
        }
        let parts = [self.what_was_run(), self.answers(), self.why_stopped().unwrap_or_default()];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let _ = write!(text, "\n{}.\n", parts.join("; "));
        for (index, warning) in self.warnings.iter().enumerate() {
            let gap = if index == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{gap}- {warning}");
        }
        text
    }
}
