//! Knows the files that are not sent because a job has written them, or has them from its user.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::fs::directory_of;
use crate::job::paths::JobPaths;
use crate::journal::is_journal;

/// Files that belong to the job and are not sent, wherever they lie.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The input, the env file, and others by their whole names.
    files: Vec<PathBuf>,
    /// The answers. What stands beside them under their name with an ending belongs to them.
    answers: Option<PathBuf>,
}

impl Kept {
    /// The files of a job.
    pub(super) fn of(files: &[&Path], job: Option<&JobPaths>) -> Self {
        let real = |path: &Path| {
            let named = path.file_name().unwrap_or_default();
            directory_of(path)
                .canonicalize()
                .map_or_else(|_| path.to_owned(), |directory| directory.join(named))
        };
        let targets = files.iter().filter_map(|file| file.canonicalize().ok());
        let files = files.iter().map(|file| real(file)).chain(targets).collect();
        Self { files, answers: job.map(|job| real(&job.answers)) }
    }

    /// Whether a file is not to be sent: one of these, or one that another job has written beside its journal.
    pub(super) fn has(&self, file: &Path) -> bool {
        let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let is_beside = |answers: &Path| {
            let rest =
                real.as_os_str().as_encoded_bytes().strip_prefix(answers.as_os_str().as_encoded_bytes());
            rest.and_then(|rest| str::from_utf8(rest).ok()).is_some_and(is_ending)
        };
        self.files.contains(&real) || self.answers.as_deref().is_some_and(is_beside) || is_of_a_job(file)
    }
}

/// Whether a file is a journal or stands beside one, as one of the same job.
fn is_of_a_job(file: &Path) -> bool {
    let Some(name) = file.file_name().and_then(OsStr::to_str) else { return false };
    let cuts = name.match_indices('.').map(|(at, _)| at).chain([name.len()]).filter(|at| *at > 0);
    cuts.filter(|at| is_ending(&name[*at..])).any(|at| {
        let journal = file.with_file_name(format!("{}.journal", &name[..at]));
        journal.is_file() && is_journal(&journal)
    })
}

/// Whether a job names a file so: what follows the name of its answers. Earlier files have a time as their ending.
fn is_ending(rest: &str) -> bool {
    let is_time = |rest: &str| {
        rest.strip_prefix('.').is_some_and(|time| time.starts_with(|c: char| c.is_ascii_digit()))
    };
    let kinds = [".journal", ".report.json", ".report.html", ".input", ".predictions"];
    let after = kinds.iter().find_map(|kind| rest.strip_prefix(kind)).unwrap_or(rest);
    after.is_empty() || is_time(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_other_jobs_are_known_by_their_journals() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["run", "run.py", "run.report.json", "other.report.json"] {
            std::fs::write(path(name), "").unwrap();
        }
        std::fs::write(path("run.journal"), br#"00000000 {"header":{}}"#).unwrap();
        let is_of_a_job = |name: &str| is_of_a_job(&path(name));
        assert_eq!(["run", "run.journal", "run.report.json"].map(is_of_a_job), [true; 3]);
        assert_eq!(["run.py", "other.report.json"].map(is_of_a_job), [false; 2]);
    }
}
