//! The [`Identity`] of a job.

use std::collections::BTreeMap;

use super::earlier::SPEC;
use super::whole::JobSpec;
use crate::journal::Header;

/// Names of modules that are no files: what is defined there is found again only by its own name.
const NO_FILE: [&str; 2] = ["<notebook>", "__main__"];

/// The options that make two sessions the same job. The input and the predictor's prompt are compared apart from it,
/// and the selected rows do not matter. A field is empty if its option was not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The SPEC, or the name of the Python object.
    pub predictor: String,
    /// Whether the predictor is a Python object.
    pub object: bool,
    /// The signature of the predictor `dspy`.
    pub signature: String,
    /// The model's name.
    pub model: String,
    /// The model's arguments, as `name=value`, sorted and joined by `, `.
    pub lm: String,
    /// The column of the question.
    pub column: String,
    /// The columns of other arguments, as `parameter=column`, sorted and joined by `, `.
    pub map: String,
    /// The saved program, as `sha256 ` and its hash in hexadecimal.
    pub program: String,
}

/// A field of an [`Identity`] that differs between two sessions.
#[derive(Debug, PartialEq, Eq)]
pub struct FieldDifference<'a> {
    /// The option's long name.
    pub name: &'static str,
    /// The earlier value.
    pub was: &'a str,
    /// The present value.
    pub is: &'a str,
}

impl Identity {
    /// Reads the identity that a session recorded.
    pub fn recorded(header: &Header) -> Self {
        let field = |name: &str| header.identity.get(name).cloned().unwrap_or_default();
        Self {
            predictor: field("predictor"),
            object: header.settings[SPEC]["object"].as_bool().unwrap_or_default(),
            signature: field("signature"),
            model: field("model"),
            lm: field("lm"),
            column: field("column"),
            map: field("map"),
            program: field("program"),
        }
    }

    /// The fields, each with its option's long name.
    pub fn fields(&self) -> [(&'static str, &str); 7] {
        let Self { predictor, object: _, signature, model, lm, column, map, program } = self;
        [
            ("predictor", predictor),
            ("signature", signature),
            ("model", model),
            ("lm", lm),
            ("column", column),
            ("map", map),
            ("program", program),
        ]
    }

    /// Whether this is the predictor of an earlier identity, perhaps with other code. What a SPEC names may be given as
    /// a Python object too, and what a notebook defines may be moved to a file: then only the ends of the names are the
    /// same.
    pub fn is_predictor_of(&self, before: &Self) -> bool {
        let end = |name: &'_ str| Some(name.rsplit_once(':')?.1.rsplit('.').next()?.to_owned());
        let has_no_file =
            |name: &str| name.rsplit_once(':').is_some_and(|(module, _)| NO_FILE.contains(&module));
        let may_move = self.object != before.object
            || (self.object && (has_no_file(&self.predictor) || has_no_file(&before.predictor)));
        let alike = || end(&self.predictor).is_some_and(|name| Some(name) == end(&before.predictor));
        self.predictor == before.predictor || (may_move && alike())
    }

    /// The fields that differ from those of an earlier identity.
    pub fn differences<'a>(&'a self, before: &'a Self) -> Vec<FieldDifference<'a>> {
        let both = before.fields().into_iter().zip(self.fields());
        let same = self.is_predictor_of(before);
        let different = both.filter(|((name, was), (_, is))| was != is && !(same && *name == "predictor"));
        different.map(|((name, was), (_, is))| FieldDifference { name, was, is }).collect()
    }
}

impl JobSpec {
    /// The identity of the job. `program` is the SHA-256 of the saved program, in hexadecimal.
    pub fn identity(&self, program: Option<String>) -> Identity {
        let list = |pairs: &mut dyn Iterator<Item = (&str, &str)>| {
            let sorted: BTreeMap<_, _> = pairs.collect();
            sorted.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
        };
        let Self { predictor, rows, .. } = self;
        Identity {
            predictor: predictor.predictor.clone(),
            object: self.object,
            signature: predictor.signature.clone(),
            model: predictor.model_name().to_owned(),
            lm: list(&mut predictor.lm.plain()),
            column: rows.column.clone().unwrap_or_default(),
            map: list(&mut rows.map.iter().map(|(name, value)| (&**name, &**value))),
            program: program.map(|sha256| format!("sha256 {sha256}")).unwrap_or_default(),
        }
    }

    /// The identity as a session records it, together with the selection that was asked for.
    pub(crate) fn recorded_identity(&self, program: Option<String>) -> BTreeMap<String, String> {
        let selection = self.rows.selection();
        let end = if selection.end == u64::MAX { String::new() } else { selection.end.to_string() };
        let identity = self.identity(program);
        let fields = identity.fields().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let asked = ("selection".to_owned(), format!("{}:{end}", selection.start));
        fields
            .into_iter()
            .filter(|(name, value)| name != "program" || !value.is_empty())
            .chain([asked])
            .collect()
    }
}
