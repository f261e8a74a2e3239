//! The files of a job, named after its answers file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::{JobError, refuse};
use crate::fs::directory_of;
use crate::selection::Shard;

/// Whether an input can be read only once: standard input, a named pipe, or a file descriptor such as a shell's `<(…)`.
pub fn is_stream(input: &Path) -> bool {
    let is_pipe = || std::fs::metadata(input).is_ok_and(|input| !input.is_file() && !input.is_dir());
    input == Path::new("-") || is_descriptor(input) || is_pipe()
}

/// Whether the path names an open file of this process. A later process does not have it.
pub fn is_descriptor(input: &Path) -> bool {
    let path = std::path::absolute(input).unwrap_or_default();
    path == Path::new("/dev/stdin") || path.starts_with("/dev/fd") || path.starts_with("/proc")
}

/// Whether the path leads to `/dev/null`.
pub fn is_null(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| path == Path::new("/dev/null"))
}

/// The answers file of a run that is named by it or by its journal.
pub fn answers_of(path: PathBuf) -> PathBuf {
    let is_journal = path.extension().is_some_and(|extension| extension == "journal") && path.is_file();
    // Answers may have any name, but then there is a journal beside them.
    if is_journal && !JobPaths::of(&path).journal.exists() { path.with_extension("") } else { path }
}

/// The most symbolic links to follow. A longer chain is taken for a circle.
pub(super) const MOST_LINKS: usize = 40;

/// The files beside an answers file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPaths {
    /// `answers.csv`.
    pub answers: PathBuf,
    /// `answers.csv.journal`.
    pub journal: PathBuf,
    /// `answers.csv.report.json`.
    pub report: PathBuf,
    /// `answers.csv.report.html`.
    pub page: PathBuf,
    /// `answers.csv.input`: the copy of a stream that was the input.
    pub spool: PathBuf,
}

impl JobPaths {
    /// The files of the job whose answers go to `answers`.
    pub fn of(answers: &Path) -> Self {
        let beside = |suffix: &str| {
            let mut name = OsString::from(answers);
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            answers: answers.to_owned(),
            journal: beside(".journal"),
            report: beside(".report.json"),
            page: beside(".report.html"),
            spool: beside(".input"),
        }
    }

    /// The files of the job whose answers go to `answers`, which may be a symbolic link. The target of a link is
    /// written, and the link stays. The other files stand beside the target, unless an earlier run put them beside the
    /// link.
    pub fn find(answers: &Path) -> Self {
        let named = Self::of(answers);
        let Some(target) = target(answers) else { return named };
        let linked = Self::of(&target);
        if named.journal.exists() && !linked.journal.exists() {
            return Self { answers: target, ..named };
        }
        linked
    }

    /// As [`Self::find`], for a run that must have a journal.
    ///
    /// # Errors
    ///
    /// Fails if there is no journal.
    pub fn of_run(answers: &Path) -> Result<Self, JobError> {
        let paths = Self::find(answers);
        if !paths.journal.exists() {
            refuse!(
                Journal,
                &paths.journal,
                "`{}` has no journal `{}`\nhint: name the answers file of an earlier `process`",
                answers.display(),
                paths.journal.display()
            );
        }
        Ok(paths)
    }

    /// Makes the paths absolute, because a predictor may change the working directory.
    ///
    /// # Errors
    ///
    /// Fails if the working directory cannot be determined.
    pub fn absolute(&self) -> std::io::Result<Self> {
        let absolute = |path: &PathBuf| std::path::absolute(path);
        Ok(Self {
            answers: absolute(&self.answers)?,
            journal: absolute(&self.journal)?,
            report: absolute(&self.report)?,
            page: absolute(&self.page)?,
            spool: absolute(&self.spool)?,
        })
    }

    /// The default answers file of an input: `<stem>.answers.<extension>` in the working directory, and
    /// `<stem>.answers.K-of-N.<extension>` for a shard. For standard input (`-`) the stem is `stdin`.
    pub fn default_answers(input: &Path, shard: Option<Shard>, extension: &str) -> PathBuf {
        let stem = if input == Path::new("-") {
            "stdin".into()
        } else {
            input.file_stem().unwrap_or_default().to_owned()
        };
        let mut name = stem;
        name.push(".answers.");
        if let Some(shard) = shard {
            name.push(format!("{}-of-{}.", shard.number(), shard.of()));
        }
        name.push(extension);
        PathBuf::from(name)
    }
}

/// Follows a chain of symbolic links to its end, which need not exist. Returns `None` for a path that is not a link.
fn target(path: &Path) -> Option<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&target) {
            Ok(next) => target = directory_of(&target).join(next),
            Err(_) => return (target != path).then_some(target),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_answers_go_to_the_current_directory() {
        let answers = |input: &str, extension| JobPaths::default_answers(Path::new(input), None, extension);
        assert_eq!(answers("data/questions.csv", "csv"), Path::new("questions.answers.csv"));
        assert_eq!(answers("-", "jsonl"), Path::new("stdin.answers.jsonl"));
        let shard = JobPaths::default_answers(Path::new("q.csv"), Shard::new(3, 10).ok(), "csv");
        assert_eq!(shard, Path::new("q.answers.3-of-10.csv"));
    }

    #[test]
    fn a_link_leads_to_the_job_and_its_files_are_where_the_journal_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("runs")).unwrap();
        std::os::unix::fs::symlink("runs/1.csv", path("last.csv")).unwrap();
        std::os::unix::fs::symlink("last.csv", path("again.csv")).unwrap();
        assert_eq!(JobPaths::find(&path("again.csv")), JobPaths::of(&path("runs/1.csv")));
        std::fs::write(path("last.csv.journal"), "").unwrap();
        let found = JobPaths::find(&path("last.csv"));
        assert_eq!((found.answers, found.journal), (path("runs/1.csv"), path("last.csv.journal")));
        std::fs::write(path("runs/1.csv.journal"), "").unwrap();
        assert_eq!(JobPaths::find(&path("last.csv")), JobPaths::of(&path("runs/1.csv")));
    }

    #[test]
    fn a_journal_names_the_answers_of_its_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        assert_eq!(answers_of(path("run.journal")), path("run.journal"));
        std::fs::write(path("run.journal"), "").unwrap();
        assert_eq!(answers_of(path("run.journal")), path("run"));
        std::fs::write(path("run.journal.journal"), "").unwrap();
        assert_eq!(answers_of(path("run.journal")), path("run.journal"));
    }

    #[test]
    fn everything_stands_beside_the_answers() {
        let paths = JobPaths::of(Path::new("out/a.csv"));
        assert_eq!(paths.journal, Path::new("out/a.csv.journal"));
        assert_eq!(paths.report, Path::new("out/a.csv.report.json"));
    }
}
