//! The groups about what is written: the columns of the answers, the page, and who may read them.

use clap::Args;
use clap::builder::FalseyValueParser;
use serde::{Deserialize, Serialize};

use super::group::group;
use super::values::{FieldNames, fields};
use super::words::Words;
use crate::fs::Access;

group! {
    /// The columns of the answers.
    [next_help_heading = "Output"] FieldSpec FieldPatch {
        /// The predictor's columns in the answers, in this order; `finish_reason`, `input_tokens` and `output_tokens`
        /// can be asked for too [default: all fields]
        [value_name = "NAME,…", value_parser = fields, env = "TAB_FIELDS"]
        fields: Option<FieldNames> as (FieldNames) = None,
    }
}

impl FieldSpec {
    /// The names of the fields to write; empty for all fields.
    pub fn names(&self) -> &[String] {
        self.fields.as_ref().map_or(&[], |names| &names.0)
    }
}

/// What is written beside the answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PageSpec {
    /// Whether the report is also written as an HTML page.
    pub html: bool,
}

impl Default for PageSpec {
    fn default() -> Self {
        Self { html: true }
    }
}

impl PageSpec {
    /// Replaces the values that the patch gives.
    pub fn lay(&mut self, patch: &PagePatch) {
        self.html = patch.wanted().unwrap_or(self.html);
    }

    pub(super) fn words(&self, words: &mut Vec<(String, Vec<String>)>) {
        words.push(("no-html".to_owned(), (!self.html).words()));
    }
}

/// What is written beside the answers.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct PagePatch {
    /// Also write the report as a page, `<ANSWERS>.report.html` (the default, or set `TAB_HTML`)
    #[arg(long, overrides_with = "no_html")]
    pub html: bool,
    /// Write no page (or set `TAB_NO_HTML`)
    #[arg(long, overrides_with = "html")]
    pub no_html: bool,
}

impl PagePatch {
    /// Whether the page is wanted; `None` if no option says so.
    pub fn wanted(&self) -> Option<bool> {
        match (self.html, self.no_html) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }
}

group! {
    /// Who may read what a run writes.
    [next_help_heading = "Output"] AccessSpec AccessPatch {
        /// Let nobody but you read the answers and reports, whatever the umask says; others can never read the journal
        [num_args = 0, default_missing_value = "true", value_parser = FalseyValueParser::new(), env = "TAB_PRIVATE"]
        private: bool as (bool) = false,
    }
}

impl AccessSpec {
    /// Who may read the files.
    pub fn access(&self) -> Access {
        if self.private { Access::Private } else { Access::Usual }
    }
}
