//! `compare`: the same rows in each mode, alternating. Not how one run is measured, nor the statistics.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::Usage;
use super::destination;
use super::measured::{FirstAnswers, Measured, Measuring};
use super::prepared::{Prepared, Preparing};
use super::streams::Streams;
use crate::config::JobOptions;
use crate::config::values::concurrency;
use crate::input::Validated;
use crate::journal::directory_of;
use crate::policy::budget::Used;
use crate::policy::stop::StopReason;
use crate::report::compare::{Comparison, ModeRuns, RunFigures, WarmUp};
use crate::report::json;
use crate::report::progress::Level;
use crate::report::text::{counted, duration};
use crate::run::signals::Signals;

/// Rows that warm up: at least enough to meet a second call, at most so many as are few.
const WARM_UP: std::ops::RangeInclusive<u64> = 3..=16;
/// A comparison that takes longer is announced.
const LONG: Duration = Duration::from_secs(60);

/// The options of `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareOptions {
    /// A `.csv` or `.jsonl` file
    pub input: PathBuf,
    /// Only, or also, one call at a time
    #[arg(long)]
    pub sequential: bool,
    /// Only, or also, several calls at a time
    #[arg(long)]
    pub concurrent: bool,
    /// Calls in flight at most; each one given is a mode of its own [default: 16]
    #[arg(short = 'c', long, value_name = "N", value_parser = concurrency)]
    pub concurrency: Vec<usize>,
    /// Runs of each mode
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Also writes the comparison as JSON
    #[arg(long, value_name = "FILE")]
    pub export_json: Option<PathBuf>,
    /// Also writes the comparison as a table in Markdown
    #[arg(long, value_name = "FILE")]
    pub export_markdown: Option<PathBuf>,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub job: JobOptions,
}

impl CompareOptions {
    /// The modes asked for, both by default; sequential first, for it is the baseline.
    fn modes(&self) -> Vec<ModeRuns> {
        let (sequential, concurrent) =
            match (self.sequential, self.concurrent || !self.concurrency.is_empty()) {
                (false, false) => (true, true),
                (false, true) if !self.concurrent => (true, true),
                chosen => chosen,
            };
        let mode =
            |name: String, calls: usize| ModeRuns { name, concurrency: calls as u64, runs: Vec::new() };
        let widths = if self.concurrency.is_empty() { &[16][..] } else { &self.concurrency };
        let mut modes: Vec<ModeRuns> =
            sequential.then(|| mode("sequential".to_owned(), 1)).into_iter().collect();
        if concurrent {
            modes.extend(widths.iter().map(|calls| mode(format!("concurrent -c {calls}"), *calls)));
        }
        modes
    }
}

/// Runs `compare`.
pub async fn compare(options: CompareOptions, streams: &mut Streams) -> anyhow::Result<u8> {
    if options.input == Path::new("-") {
        return Err(Usage("`compare` reads its input once for each run: give it a file".to_owned()).into());
    }
    for (file, option) in
        [(&options.export_json, "--export-json"), (&options.export_markdown, "--export-markdown")]
    {
        let Some(file) = file else { continue };
        destination::check(file, option, &[("the input", &options.input)])?;
        let directory = directory_of(file);
        tempfile::tempfile_in(directory)
            .with_context(|| format!("failed to write into `{}`", directory.display()))?;
    }
    // Before the first Python import: see `Signals`.
    let mut signals = Signals::new()?;
    let format = options.job.rows.format_of(&options.input)?;
    let mut modes = options.modes();
    let preparing = Preparing {
        job: options.job.clone(),
        source: options.job.rows.source(&options.input, format),
        calls: modes.iter().map(|mode| mode.concurrency as usize).max().unwrap_or(1),
        fields: Vec::new(),
        settings: serde_json::Value::Null,
    };
    let prepared = match preparing.run(&mut signals).await? {
        Ok(prepared) => prepared,
        Err(signal) => return Ok(StopReason::Signal(signal).exit_code()),
    };
    prepared.announce(streams.reporter(&options.job.show).as_mut());
    if prepared.validated.selected.is_empty() {
        prepared.answerer.shut_down();
        bail!("`{}` has no row to compare\nhint: choose others with `--range`", options.input.display());
    }
    if options.job.dry_run {
        let rows = prepared.validated.selected.end - prepared.validated.selected.start;
        let runs = modes.len() as u64 * u64::from(options.runs);
        prepared.tell_estimate(rows * runs, streams.reporter(&options.job.show).as_mut());
        prepared.answerer.shut_down();
        return Ok(0);
    }
    for mode in &mut modes {
        let calls = prepared.answerer.limit(mode.concurrency as usize) as u64;
        if calls < mode.concurrency {
            // The name must not promise what is not reached.
            mode.name += &format!(" ({calls} at once)");
            mode.concurrency = calls;
        }
    }
    let used = Used::default();
    let comparing =
        Comparing { options: &options, prepared: &prepared, streams, signals: &mut signals, used };
    let comparison = match comparing.run(modes).await? {
        Ok(comparison) => comparison,
        Err(code) => {
            let text = "the comparison is given up, as one of its runs was stopped; `compare` starts anew, with fewer rows by `--limit`";
            streams.reporter(&options.job.show).message(Level::Warning, text);
            return Ok(code);
        }
    };
    prepared.answerer.shut_down();
    if let Some(file) = &options.export_json {
        json::write(file, &comparison)?;
    }
    if let Some(file) = &options.export_markdown {
        json::write_whole(file, comparison.markdown().as_bytes())
            .with_context(|| format!("failed to write `{}`", file.display()))?;
    }
    let text = comparison.table(streams.look(&options.job.show));
    streams.say(&options.job.show, &text)?;
    Ok(if comparison.modes.iter().any(|mode| mode.failed > 0.0) { 3 } else { 0 })
}

/// A comparison under way.
struct Comparing<'a> {
    options: &'a CompareOptions,
    prepared: &'a Prepared,
    streams: &'a Streams,
    signals: &'a mut Signals,
    /// What all runs so far used.
    used: Used,
}

impl Comparing<'_> {
    /// Warms up and makes all runs; or the exit code where one of them was stopped.
    async fn run(mut self, mut modes: Vec<ModeRuns>) -> anyhow::Result<Result<Comparison, u8>> {
        let selected = &self.prepared.validated.selected;
        let rows = selected.end - selected.start;
        let (warm_up, called) = match self.warm_up(rows, &modes).await? {
            Ok(warmed) => warmed,
            Err(code) => return Ok(Err(code)),
        };
        self.announce_length(rows, &modes, &called);
        let mut first: Option<FirstAnswers> = None;
        for run in 1..=self.options.runs {
            // Forth and back, so that no mode always comes first.
            let order: Vec<usize> =
                if run % 2 == 1 { (0..modes.len()).collect() } else { (0..modes.len()).rev().collect() };
            for mode in order {
                let title = format!("run {run} of {}: {}", self.options.runs, modes[mode].name);
                let calls = modes[mode].concurrency;
                let mut measured = match self.measure(&self.prepared.validated, calls, &title).await? {
                    Ok(measured) => measured,
                    Err(code) => return Ok(Err(code)),
                };
                if let Some(first) = &mut first {
                    measured.figures.different = Some(measured.differing_answers(first)?);
                } else {
                    measured.keep_answers(first.insert(FirstAnswers::new(selected)))?;
                }
                modes[mode].runs.push(measured.figures);
            }
        }
        Ok(Ok(Comparison::new(rows, warm_up, modes)))
    }

    /// Makes connections, fills what fills itself at the first use: a few rows at the greatest concurrency, not timed.
    /// No more than half of the rows, so that what the predictor caches of them shows.
    async fn warm_up(
        &mut self,
        rows: u64,
        modes: &[ModeRuns],
    ) -> anyhow::Result<Result<(WarmUp, RunFigures), u8>> {
        let widest = modes.iter().map(|mode| mode.concurrency).max().unwrap_or(1);
        let few = widest.clamp(*WARM_UP.start(), *WARM_UP.end()).min(rows.div_ceil(2));
        let selected = &self.prepared.validated.selected;
        let selected = selected.start..selected.start + few;
        let validated = Validated { selected, ..self.prepared.validated.clone() };
        let title = format!("warm-up: {}, not timed", counted(few, "row"));
        let measured = self.measure(&validated, widest, &title).await?;
        Ok(measured
            .map(|Measured { figures, .. }| (WarmUp { rows: few, attempts: figures.attempts }, figures)))
    }

    async fn measure(
        &mut self,
        validated: &Validated,
        calls: u64,
        title: &str,
    ) -> anyhow::Result<Result<Measured, u8>> {
        let mut reporter = self.streams.reporter(&self.options.job.show);
        reporter.message(Level::Note, title);
        let measuring =
            Measuring { prepared: self.prepared, validated, calls: calls as usize, used: &mut self.used };
        measuring.run(reporter.as_mut(), self.signals).await
    }

    /// Says how long a long comparison will take, from what the calls of the warm-up took.
    fn announce_length(&self, rows: u64, modes: &[ModeRuns], called: &RunFigures) {
        let Some(call_ms) = called.call_ms else { return };
        let call = Duration::from_secs_f64(call_ms / 1e3);
        let a_round: Duration =
            modes.iter().map(|mode| call.mul_f64(rows.div_ceil(mode.concurrency).max(1) as f64)).sum();
        let all = a_round * self.options.runs;
        if all > LONG {
            let text = format!(
                "this will take about {}: {} of {} in {}; `-n` picks fewer rows",
                duration(all),
                counted(self.options.runs.into(), "run"),
                counted(rows, "row"),
                counted(modes.len() as u64, "mode")
            );
            self.streams.reporter(&self.options.job.show).message(Level::Note, &text);
        }
    }
}
