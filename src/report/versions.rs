//! The versions of the predictor that answered a job's rows, on one line.

use super::Report;
use super::text::{brief, count, counted, list};

/// Columns that the names of what changed may take.
const CHANGED: usize = 60;

/// How many rows each version answered, if there are answers of more than one.
pub(super) fn line(report: &Report) -> Option<String> {
    let answering: Vec<_> = report.predictor_versions.iter().filter(|version| version.answered > 0).collect();
    match &answering[..] {
        [] | [_] => None,
        [first, second] => {
            let changed: Vec<_> = second.changed.iter().map(|what| brief(what, CHANGED)).collect();
            Some(format!(
                "2 versions: {} answered by the first, {} by the second (changed: {})",
                counted(first.answered, "row"),
                count(second.answered),
                list(&changed, CHANGED)
            ))
        }
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(|version| count(version.answered)).collect();
            Some(format!(
                "{} versions: {} and {} answered by each in turn",
                count(answering.len() as u64),
                most.join(", "),
                counted(last.answered, "row")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{sample, version};

    #[test]
    fn only_several_versions_are_told() {
        let told = |answered: &[u64]| {
            let versions = (1..).zip(answered).map(|(number, answered)| version(number, *answered)).collect();
            line(&Report { predictor_versions: versions, ..sample() })
        };
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[1_196, 0]), None);
        assert_eq!(
            told(&[1_000, 196]).as_deref(),
            Some(
                "2 versions: 1,000 rows answered by the first, 196 by the second (changed: instructions of `predict`, `helper.py`)"
            )
        );
        assert_eq!(
            told(&[1, 0, 2, 3]).as_deref(),
            Some("3 versions: 1, 2 and 3 rows answered by each in turn")
        );
    }
}
