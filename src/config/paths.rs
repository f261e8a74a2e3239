//! The files of a job, by the name of its answers file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

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
    /// `answers.csv.input`: what came by standard input.
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

    /// The same files, wherever the process goes: a predictor may change its directory.
    pub fn absolute(&self) -> std::io::Result<Self> {
        Ok(Self::of(&std::path::absolute(&self.answers)?))
    }

    /// The answers file of an input without `-o`: `<stem>.answers.<extension>` in the current directory; standard
    /// input's stem is `stdin`.
    pub fn default_answers(input: &Path, extension: &str) -> PathBuf {
        let stem = if input == Path::new("-") {
            "stdin".into()
        } else {
            input.file_stem().unwrap_or_default().to_owned()
        };
        let mut name = stem;
        name.push(".answers.");
        name.push(extension);
        PathBuf::from(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_answers_go_to_the_current_directory() {
        let answers = |input: &str, extension| JobPaths::default_answers(Path::new(input), extension);
        assert_eq!(answers("data/questions.csv", "csv"), Path::new("questions.answers.csv"));
        assert_eq!(answers("-", "jsonl"), Path::new("stdin.answers.jsonl"));
    }

    #[test]
    fn everything_stands_beside_the_answers() {
        let paths = JobPaths::of(Path::new("out/a.csv"));
        assert_eq!(paths.journal, Path::new("out/a.csv.journal"));
        assert_eq!(paths.report, Path::new("out/a.csv.report.json"));
    }
}
