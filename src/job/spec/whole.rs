//! The whole of a job, and the whole of what may be given of one.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::bounds::{MoneyPatch, MoneySpec, RetryPatch, RetrySpec, StopPatch, StopSpec, TimePatch, TimeSpec};
use super::output::{AccessPatch, AccessSpec, FieldPatch, FieldSpec, PagePatch, PageSpec};
use super::pace::{PacePatch, PaceSpec, RatePatch, RateSpec};
use super::predictor::{PredictorPatch, PredictorSpec};
use super::rows::{RowPatch, RowSpec};
use crate::input::{Format, Source};

/// The version of the data: raised where an older program would misread it.
pub(super) const VERSION: u32 = 1;

/// What a job is: plain data, with absolute paths. Secrets are kept by name; their values are never serialized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The version of this data.
    pub version: u32,
    /// Where the job was started: a relative SPEC, and what a predictor opens, are looked for there.
    pub directory: PathBuf,
    /// The rows' file; what a stream was kept in.
    pub input: PathBuf,
    /// The input's format.
    pub format: Format,
    /// Whether the rows came by a stream.
    pub stream: bool,
    /// Which program answers.
    #[serde(default)]
    pub predictor: PredictorSpec,
    /// Which rows, and how they become arguments.
    #[serde(default)]
    pub rows: RowSpec,
    /// How many calls at once.
    #[serde(default)]
    pub pace: PaceSpec,
    /// How many calls a minute.
    #[serde(default)]
    pub rates: RateSpec,
    /// How long things may take.
    #[serde(default)]
    pub time: TimeSpec,
    /// What is tried again.
    #[serde(default)]
    pub retry: RetrySpec,
    /// When to give up.
    #[serde(default)]
    pub stop: StopSpec,
    /// Prices and bounds.
    #[serde(default)]
    pub money: MoneySpec,
    /// Which of the predictor's fields become columns.
    #[serde(default)]
    pub fields: FieldSpec,
    /// What is written beside the answers.
    #[serde(default)]
    pub page: PageSpec,
    /// Who may read what is written.
    #[serde(default)]
    pub access: AccessSpec,
}

/// What `process`, `resume` and `compare` may be given of a job.
#[derive(Debug, Clone, Default, Args)]
#[allow(missing_docs)]
pub struct Patch {
    #[command(flatten)]
    pub access: AccessPatch,
    #[command(flatten)]
    pub predictor: PredictorPatch,
    #[command(flatten)]
    pub rows: RowPatch,
    #[command(flatten)]
    pub rates: RatePatch,
    #[command(flatten)]
    pub time: TimePatch,
    #[command(flatten)]
    pub retry: RetryPatch,
    #[command(flatten)]
    pub stop: StopPatch,
    #[command(flatten)]
    pub money: MoneyPatch,
}

/// What `process` and `resume` may be given of a job: all of it.
#[derive(Debug, Clone, Default, Args)]
#[allow(missing_docs)]
pub struct WholePatch {
    #[command(flatten)]
    pub fields: FieldPatch,
    #[command(flatten)]
    pub page: PagePatch,
    #[command(flatten)]
    pub pace: PacePatch,
    #[command(flatten)]
    pub shared: Patch,
}

impl JobSpec {
    /// A job of the defaults, started in a directory.
    pub fn new(directory: &Path, input: &Path, format: Format) -> Self {
        Self {
            version: VERSION,
            directory: directory.to_owned(),
            input: directory.join(input),
            format,
            stream: false,
            predictor: PredictorSpec::default(),
            rows: RowSpec::default(),
            pace: PaceSpec::default(),
            rates: RateSpec::default(),
            time: TimeSpec::default(),
            retry: RetrySpec::default(),
            stop: StopSpec::default(),
            money: MoneySpec::default(),
            fields: FieldSpec::default(),
            page: PageSpec::default(),
            access: AccessSpec::default(),
        }
    }

    /// Lays over it what was given in the directory `given_in`, to which relative paths of the patch belong.
    pub fn lay_all(&mut self, patch: WholePatch, given_in: &Path) {
        self.fields.lay(patch.fields);
        self.page.lay(&patch.page);
        self.pace.lay(&patch.pace);
        self.lay(patch.shared, given_in);
    }

    /// The same for what all commands that make calls may be given.
    pub fn lay(&mut self, mut patch: Patch, given_in: &Path) {
        patch.predictor.resolve(given_in, &self.directory);
        // Of the two, only the later one holds.
        if patch.rows.limit.is_some() || patch.rows.range.is_some() {
            (self.rows.limit, self.rows.range) = (None, None);
        }
        self.access.lay(patch.access);
        self.predictor.lay(patch.predictor);
        self.rows.lay(patch.rows);
        self.rates.lay(patch.rates);
        self.time.lay(patch.time);
        self.retry.lay(patch.retry);
        self.stop.lay(patch.stop);
        self.money.lay(patch.money);
    }

    /// Each leaf as the words that give it on a command line: its option's long name, and its values.
    pub fn words(&self) -> Vec<(String, Vec<String>)> {
        let mut words = Vec::new();
        self.fields.words(&mut words);
        self.page.words(&mut words);
        self.pace.words(&mut words);
        self.access.words(&mut words);
        self.predictor.words(&mut words);
        self.rows.words(&mut words);
        self.rates.words(&mut words);
        self.time.words(&mut words);
        self.retry.words(&mut words);
        self.stop.words(&mut words);
        self.money.words(&mut words);
        words
    }

    /// How the rows are read from a file: the input, or what it is called.
    pub fn source(&self, path: &Path) -> Source {
        self.rows.source(path, self.format)
    }
}
