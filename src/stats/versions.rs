//! Which rows were answered under which version of the predictor: its options, prompts and source files.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::row_bytes::RowBytes;
use crate::fs::sha256_of;
use crate::journal::Header;
use crate::prompt::Prompt;
use crate::selection::Rows;

/// The part of a session's identity that says nothing of the predictor.
const SELECTION: &str = "selection";
/// So many ranges of a version's rows are listed.
const RANGES: usize = 1_000;

/// A predictor as it was in one or several sessions of a job, and the rows whose answers are from these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictorVersion {
    /// SHA-256 over its options, prompts and source files.
    pub sha256: String,
    /// What changed against the version before; empty for the first one.
    pub changed: Vec<String>,
    /// When the sessions under it started.
    pub sessions: Vec<String>,
    /// How many rows have their answer from these sessions.
    pub answered: u64,
    /// Which: ranges of row ids, end exclusive; the first 1,000 of them.
    pub rows: Vec<[u64; 2]>,
}

/// Notes under which version each row was answered, at one byte a row.
#[derive(Debug, Default)]
pub(super) struct Versions {
    all: Vec<PredictorVersion>,
    last: Option<(BTreeMap<String, String>, Option<Prompt>)>,
    /// The version of the session: 1 + its index; what does not fit in a byte shares the last one.
    current: u8,
    rows: RowBytes,
}

impl Versions {
    /// Makes room for the rows of a selection.
    pub(super) fn cover(&mut self, selection: &Rows) {
        self.rows.cover(selection);
    }

    /// A session starts.
    pub(super) fn begin(&mut self, header: &Header) {
        let mut identity = header.identity.clone();
        identity.remove(SELECTION);
        let now = (identity, header.prompt.clone());
        let sha256 = hash(&now.0, now.1.as_ref());
        let known = self.all.iter().position(|version| version.sha256 == sha256);
        let at = known.unwrap_or_else(|| {
            if self.all.len() < usize::from(u8::MAX) {
                let changed = self.last.as_ref().map_or_else(Vec::new, |last| changed(last, &now));
                let (sessions, rows) = (Vec::new(), Vec::new());
                self.all.push(PredictorVersion { sha256, changed, sessions, answered: 0, rows });
            }
            self.all.len() - 1
        });
        self.all[at].sessions.push(header.started_at.clone());
        self.current = at as u8 + 1;
        self.last = Some(now);
    }

    /// A row is answered.
    pub(super) fn answered(&mut self, row: u64) {
        self.rows.replace(row, self.current);
    }

    /// The versions in the order in which they came, each with its rows.
    pub(super) fn told(&self) -> Vec<PredictorVersion> {
        let mut versions = self.all.clone();
        for (row, version) in self.rows.iter() {
            let version = usize::from(version).checked_sub(1).and_then(|at| versions.get_mut(at));
            let Some(PredictorVersion { answered, rows, .. }) = version else { continue };
            *answered += 1;
            if let Some([_, end]) = rows.last_mut().filter(|[_, end]| *end == row) {
                *end += 1;
            } else if rows.len() < RANGES {
                rows.push([row, row + 1]);
            }
        }
        versions
    }
}

fn hash(identity: &BTreeMap<String, String>, prompt: Option<&Prompt>) -> String {
    let options: Vec<_> = identity.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    sha256_of((options.concat() + &prompt.map_or_else(String::new, Prompt::hashes)).as_bytes())
}

/// What changed, by name.
fn changed(
    (was, before): &(BTreeMap<String, String>, Option<Prompt>),
    (is, now): &(BTreeMap<String, String>, Option<Prompt>),
) -> Vec<String> {
    let names: BTreeSet<_> =
        was.keys().chain(is.keys()).filter(|name| was.get(*name) != is.get(*name)).collect();
    let mut changed: Vec<_> = names.into_iter().map(|name| format!("`--{name}`")).collect();
    if let (Some(was), Some(is)) = (before, now) {
        changed.extend(was.differences(is).iter().map(ToString::to_string));
        changed.extend(was.changed_sources(is).map(|file| format!("`{file}`")));
        changed.extend(was.other_sources(is));
    } else if changed.is_empty() {
        changed.push("not recorded before".to_owned());
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::header;
    use crate::prompt::tests::prompt;

    #[test]
    fn each_row_is_told_with_the_version_of_its_last_answer() {
        let mut versions = Versions::default();
        let session = |pid, instructions| {
            let header = header(pid, 0..10);
            Header { started_at: format!("session {pid}"), prompt: Some(prompt(instructions, "1")), ..header }
        };
        versions.cover(&(0..10).into());
        versions.begin(&session(1, "Be brief."));
        (0..6).for_each(|row| versions.answered(row));
        versions.begin(&session(2, "Be long."));
        for row in [7, 8, 2] {
            versions.answered(row);
        }
        versions.begin(&session(3, "Be brief."));
        versions.answered(9);

        let told = versions.told();
        let rows: Vec<_> = told.iter().map(|version| (version.answered, version.rows.clone())).collect();
        assert_eq!(rows, [(6, vec![[0, 2], [3, 6], [9, 10]]), (3, vec![[2, 3], [7, 9]])]);
        assert_eq!(
            [&told[0].sessions[..], &told[1].sessions[..]].concat(),
            ["session 1", "session 3", "session 2"]
        );
        assert_eq!(told[1].changed, ["instructions of `predict`"]);
        assert!(told[0].changed.is_empty());
    }

    #[test]
    fn another_model_is_another_version_and_a_selection_is_not() {
        let session = |model: &str, selection: &str| {
            let mut header = header(1, 0..2);
            header.identity.insert("model".to_owned(), model.to_owned());
            header.identity.insert(SELECTION.to_owned(), selection.to_owned());
            header
        };
        let mut versions = Versions::default();
        for header in [session("a", "0:1"), session("a", "0:2"), session("b", "0:2")] {
            versions.begin(&header);
        }
        let changed: Vec<_> = versions.told().into_iter().map(|version| version.changed).collect();
        assert_eq!(changed, [vec![], vec!["`--model`".to_owned()]]);
        versions.begin(&Header { prompt: Some(prompt("", "1")), ..session("b", "0:2") });
        assert_eq!(versions.told()[2].changed, ["not recorded before"]);
    }

    #[test]
    fn the_ranges_that_are_listed_are_bounded_and_the_count_is_whole() {
        let mut versions = Versions::default();
        versions.cover(&(0..4_000).into());
        versions.begin(&header(1, 0..4_000));
        (0..2_000).for_each(|row| versions.answered(2 * row));
        let [told] = &versions.told()[..] else { panic!("one version") };
        assert_eq!((told.answered, told.rows.len()), (2_000, RANGES));
    }
}
