//! What decides a predictor's answers beside its rows and its model: the prompts of a DSPy module, and source files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Characters of a text that are kept. Its hash is that of the whole.
const KEPT: usize = 2_000;

/// A predictor as it was when it was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The predictors within a DSPy module, by name; empty for a plain function.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub predictors: BTreeMap<String, Parts>,
    /// SHA-256 of each source file: the predictor's own, and those of the user's own modules that were imported. The
    /// journal names a file below the job's directory relative to it. In place of a file, a Python object that comes
    /// from none has its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, String>,
    /// SHA-256 of the text of the predictor's own function or class, by which one is known again that has moved to
    /// another file; `None` if Python has no source of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// What one predictor within a DSPy module tells its model beside a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Its fields with their types and descriptions.
    pub signature: Text,
    /// Its instructions.
    pub instructions: Text,
    /// Its examples.
    pub demos: Text,
}

/// A text, known by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// SHA-256 of the whole, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Its beginning, for people.
    pub text: String,
}

/// Something in a prompt that differs between two sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference<'a> {
    /// One part of a predictor's prompt.
    Part {
        /// The predictor's name within the module.
        predictor: &'a str,
        /// `signature`, `instructions` or `demos`.
        part: &'static str,
        /// What it was.
        was: &'a Text,
        /// What it is now.
        is: &'a Text,
    },
    /// The module has a predictor that it did not have.
    New(&'a str),
    /// The module no longer has a predictor that it had.
    Gone(&'a str),
}

impl Text {
    /// The beginning of a text whose hash is known.
    pub fn new(sha256: String, text: &str) -> Self {
        Self { sha256, text: text.chars().take(KEPT).collect() }
    }
}

impl Prompt {
    /// Names the source files below a directory relative to it, so that a job and its predictor can be moved together.
    #[must_use]
    pub fn relative_to(self, directory: &Path) -> Self {
        // Python names the files as links lead to them.
        let real = directory.canonicalize();
        let relative = |file: String| {
            let below = |directory: &Path| Path::new(&file).strip_prefix(directory).ok()?.to_str();
            let name = below(directory).or_else(|| below(real.as_deref().ok()?)).map(str::to_owned);
            name.unwrap_or(file)
        };
        let sources = self.sources.into_iter().map(|(file, sha256)| (relative(file), sha256)).collect();
        Self { sources, ..self }
    }

    /// How the prompts of the module differ, in the order of the predictors' names.
    pub fn differences<'a>(&'a self, now: &'a Self) -> Vec<Difference<'a>> {
        let names: BTreeSet<_> = self.predictors.keys().chain(now.predictors.keys()).collect();
        let mut differences = Vec::new();
        for name in names {
            match (self.predictors.get(name), now.predictors.get(name)) {
                (Some(was), Some(is)) => differences.extend(was.differences(name, is)),
                (None, _) => differences.push(Difference::New(name)),
                (_, None) => differences.push(Difference::Gone(name)),
            }
        }
        differences
    }

    /// The source files that hold other bytes now, of those that both sessions were loaded from.
    pub fn changed_sources<'a>(&'a self, now: &'a Self) -> impl Iterator<Item = &'a str> {
        let changed = |(file, was): &(&String, &String)| now.sources.get(*file).is_some_and(|is| is != *was);
        self.sources.iter().filter(changed).map(|(file, _)| file.as_str())
    }

    /// Whether the predictor's own function or class has another text now.
    pub fn is_rewritten(&self, now: &Self) -> bool {
        self.code.as_ref().zip(now.code.as_ref()).is_some_and(|(was, is)| was != is)
    }

    /// The source files that only one of two sessions was loaded from, with a word on which.
    pub fn other_sources(&self, now: &Self) -> Vec<String> {
        let missing_in = |one: &Self, word: &str, other: &Self| -> Vec<_> {
            let files = one.sources.keys().filter(|file| !other.sources.contains_key(*file));
            files.map(|file| format!("`{file}` ({word})")).collect()
        };
        [missing_in(self, "gone", now), missing_in(now, "new", self)].concat()
    }

    /// The hashes of all parts and files, a line each with its name: equal where the predictor is the same.
    pub fn hashes(&self) -> String {
        let mut lines = String::new();
        for (name, Parts { signature, instructions, demos }) in &self.predictors {
            for part in [signature, instructions, demos] {
                lines += &format!("{} {name}\n", part.sha256);
            }
        }
        for (file, sha256) in &self.sources {
            lines += &format!("{sha256} {file}\n");
        }
        lines
    }
}

impl Parts {
    fn differences<'a>(&'a self, predictor: &'a str, now: &'a Self) -> impl Iterator<Item = Difference<'a>> {
        let parts = [
            ("signature", &self.signature, &now.signature),
            ("instructions", &self.instructions, &now.instructions),
            ("demos", &self.demos, &now.demos),
        ];
        let changed = parts.into_iter().filter(|(_, was, is)| was.sha256 != is.sha256);
        changed.map(move |(part, was, is)| Difference::Part { predictor, part, was, is })
    }
}

/// What differs, without the texts: ``instructions of `predict` ``.
impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part { predictor, part, .. } => write!(f, "{part} of `{predictor}`"),
            Self::New(predictor) => write!(f, "predictor `{predictor}` (new)"),
            Self::Gone(predictor) => write!(f, "predictor `{predictor}` (gone)"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A module of one predictor with these instructions, loaded from `program.py` with this hash.
    pub(crate) fn prompt(instructions: &str, source: &str) -> Prompt {
        let text = |text: &str| Text::new(format!("hash of {text}"), text);
        let parts = Parts {
            signature: text("question: str -> answer: str"),
            instructions: text(instructions),
            demos: text("0 demos"),
        };
        Prompt {
            predictors: BTreeMap::from([("predict".to_owned(), parts)]),
            sources: BTreeMap::from([("program.py".to_owned(), source.to_owned())]),
            code: None,
        }
    }

    #[test]
    fn a_part_that_differs_is_named_and_so_is_a_file() {
        let (was, is) = (prompt("Be brief.", "1"), prompt("Be long.", "2"));
        let named = |was: &Prompt, is: &Prompt| -> Vec<_> {
            was.differences(is).iter().map(ToString::to_string).collect()
        };
        assert_eq!(named(&was, &is), ["instructions of `predict`"]);
        assert_eq!(was.changed_sources(&is).collect::<Vec<_>>(), ["program.py"]);
        assert!(was.differences(&was).is_empty() && was.changed_sources(&was).next().is_none());
        assert_ne!(was.hashes(), is.hashes());
        assert_eq!(named(&Prompt::default(), &is), ["predictor `predict` (new)"]);
        assert_eq!(named(&was, &Prompt::default()), ["predictor `predict` (gone)"]);
        assert_eq!(
            Prompt::default().changed_sources(&is).count(),
            0,
            "a file that was not there has not changed"
        );
        assert_eq!(Prompt::default().other_sources(&is), ["`program.py` (new)"]);
        assert_eq!(is.other_sources(&Prompt::default()), ["`program.py` (gone)"]);
    }

    #[test]
    fn of_a_long_text_the_beginning_is_kept() {
        assert_eq!(Text::new(String::new(), &"é".repeat(3_000)).text.chars().count(), KEPT);
    }
}
