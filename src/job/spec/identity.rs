//! The [`Identity`] of a job.

use std::collections::BTreeMap;

use super::whole::JobSpec;

/// The options that make two sessions the same job. The input and the predictor's prompt are compared apart from it,
/// and the selected rows do not matter. A field is empty if its option was not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The SPEC.
    pub predictor: String,
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
    pub fn recorded(fields: &BTreeMap<String, String>) -> Self {
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        Self {
            predictor: field("predictor"),
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
        let Self { predictor, signature, model, lm, column, map, program } = self;
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

    /// The fields that differ from those of an earlier identity.
    pub fn differences<'a>(&'a self, before: &'a Self) -> Vec<FieldDifference<'a>> {
        let both = before.fields().into_iter().zip(self.fields());
        let different = both.filter(|((_, was), (_, is))| was != is);
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
