//! The report as one self-contained HTML page: no script, nothing loaded from elsewhere, every foreign word escaped.
//! `charts` decides what its charts show; `page.html` and `page.css` decide how they look.
//!
//! The page is made to be shown to others: it holds times, counts and error messages, but no questions and no answers.

mod chart;
mod charts;
mod workers;

use std::io;
use std::path::Path;
use std::time::Duration;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use self::chart::Chart;
use super::json::ReportError;
use super::text::{
    argument, brief, count, counted, dollars, duration, escape, figure, millis, reason, seconds,
};
use super::verdict::verdict;
use super::{Distribution, Report, versions};
use crate::error::hint_of;
use crate::fs::{Access, replace};
use crate::outcome::FailedAttempt;
use crate::stats::{Fold, Span};

const STYLE: &str = include_str!("page.css");
/// Columns of foreign text: of a name, and of a message or a place.
const NAME: usize = 60;
const MESSAGE: usize = 300;

/// The beginning of an element that every page has, by which a page is recognized.
const SIGN: &str = "<section id=\"figures\" aria-label=\"Headline figures\">";

/// What `page.html` is filled with.
#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    style: &'static str,
    style_hash: String,
    title: String,
    state: (&'static str, String),
    stopped: Option<String>,
    verdict: Option<String>,
    when: String,
    what: String,
    figures: Vec<Figure>,
    throughput: Option<Chart>,
    in_flight: Option<Chart>,
    histogram: Option<Chart>,
    latencies: Vec<[String; 7]>,
    shares: Option<Chart>,
    waterfall: Option<Chart>,
    together: bool,
    density: Option<Chart>,
    errors: Option<Chart>,
    retries: Option<Chart>,
    classes: Vec<Class>,
    failures: Vec<Failure>,
    more_failures: u64,
    slowest: Vec<Slow>,
    processor: Option<Chart>,
    workers: Vec<[String; 8]>,
    tokens: Vec<(&'static str, String)>,
    settings: Vec<(&'static str, String)>,
    program: &'static str,
}

/// A headline figure.
struct Figure {
    name: &'static str,
    value: String,
    note: String,
}

/// One class of errors.
struct Class {
    name: String,
    attempts: String,
    rows: String,
    example: String,
}

/// One failed attempt.
struct Failure {
    row: u64,
    number: u32,
    at: String,
    error: String,
}

/// One of the slowest rows.
struct Slow {
    row: u64,
    times: [String; 4],
    attempts: u32,
    status: &'static str,
    error: String,
}

/// Writes the page about an answers file, whole or not at all.
///
/// # Errors
///
/// Fails if the page cannot be written; an old page is left as it was.
pub(crate) fn write(
    path: &Path,
    access: Access,
    answers: &Path,
    report: &Report,
    fold: &Fold,
) -> Result<(), ReportError> {
    let html = page(answers, report, fold)
        .map_err(io::Error::other)
        .and_then(|html| replace(path, access, html.as_bytes()));
    html.map_err(|error| ReportError::Write { path: path.to_owned(), error })
}

/// Whether the file is a page written by this program, in any version.
pub(crate) fn is_ours(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|page| memchr::memmem::find(&page, SIGN.as_bytes()).is_some())
}

fn page(answers: &Path, report: &Report, fold: &Fold) -> askama::Result<String> {
    let (stats, course) = (&fold.stats, &fold.course);
    let ran = course.length() > Duration::ZERO;
    let called = ran && report.latency_ms.ok.count + report.latency_ms.failed.count > 0;
    let waterfall = ran.then(|| charts::waterfall(course)).flatten();
    let failed = ran && report.attempts.by_error.total() > 0;
    Page {
        style: STYLE,
        style_hash: STANDARD.encode(Sha256::digest(STYLE)),
        title: brief(&answers.file_name().unwrap_or(answers.as_os_str()).to_string_lossy(), NAME),
        state: state(report),
        stopped: report.stopped.as_ref().map(|stopped| reason(stopped).0),
        verdict: verdict(report),
        when: when(&report.run.started_at),
        what: what(report),
        figures: figures(report),
        throughput: ran.then(|| charts::throughput(report, course)),
        in_flight: called.then(|| charts::in_flight(report, course)),
        histogram: called.then(|| charts::histogram(report, stats)),
        latencies: latencies(report),
        shares: charts::shares(report),
        density: (called && waterfall.is_none()).then(|| charts::density(course)),
        waterfall,
        together: course.spans().iter().any(|span| !span.is_told()),
        errors: failed.then(|| charts::errors(report, course)),
        retries: (ran && report.attempts.retries > 0).then(|| charts::retries(report, course)),
        classes: classes(report, fold),
        more_failures: report.attempts.by_error.total().saturating_sub(report.failures.len() as u64),
        failures: report.failures.iter().map(failure).collect(),
        slowest: course.slowest().into_iter().filter(|span| span.attempts > 0).map(slow).collect(),
        processor: workers::processor(report),
        workers: workers::lines(report),
        tokens: tokens(report),
        settings: settings(report),
        program: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")),
    }
    .render()
}

/// Formats a time of RFC 3339 for people, to the second.
fn when(time: &str) -> String {
    brief(&time.chars().take(19).collect::<String>().replacen('T', " ", 1), NAME) + " UTC"
}

/// The input and the predictor.
fn what(report: &Report) -> String {
    let (input, predictor) = (Path::new(&report.run.input), &report.run.predictor);
    let name = input.file_name().unwrap_or(input.as_os_str()).to_string_lossy();
    format!("{} by {}", brief(&name, NAME), brief(predictor, NAME))
}

fn state(report: &Report) -> (&'static str, String) {
    let rows = &report.rows;
    match (rows.failed, rows.unfinished) {
        (0, 0) => ("good", "every row answered".to_owned()),
        (failed, 0) => ("bad", format!("{} failed", counted(failed, "row"))),
        (0, left) => ("warn", format!("{} unfinished", counted(left, "row"))),
        (failed, left) => ("bad", format!("{} failed, {} unfinished", counted(failed, "row"), count(left))),
    }
}

fn figures(report: &Report) -> Vec<Figure> {
    let (rows, attempts, concurrency) = (&report.rows, &report.attempts, &report.concurrency);
    let mut figures = Vec::new();
    let mut add = |name, value, note| figures.push(Figure { name, value, note });
    let cut_off = if rows.cut_off > 0 { format!(", {} cut off", count(rows.cut_off)) } else { String::new() };
    add("answered", count(rows.ok), format!("of {}{cut_off}", counted(rows.total, "row")));
    let sessions = if report.sessions > 1 {
        format!("in {}", counted(report.sessions, "session"))
    } else {
        "first call to last outcome or attempt".to_owned()
    };
    add("wall time", seconds(report.wall_s), sessions);
    add("rows a second", figure(report.rows_per_s), "answered".to_owned());
    let latency = &report.latency_ms.ok;
    if let (Some(p50), Some(p99)) = (latency.p50, latency.p99) {
        add("median latency", millis(p50), format!("of the last call, p99 {}", millis(p99)));
    }
    if let (Some(p50), Some(p99)) = (report.row_ms.p50, report.row_ms.p99) {
        add("median row", millis(p50), format!("waits and retries included, p99 {}", millis(p99)));
    }
    add(
        "in flight",
        figure(concurrency.achieved_mean),
        format!("on average of {} allowed", count(concurrency.requested)),
    );
    add("attempts", count(attempts.total), counted(attempts.retries, "retry"));
    let tokens = &report.tokens;
    if let Some(cost) = report.cost_usd {
        add("cost", dollars(cost), format!("{} tokens", count(tokens.input.saturating_add(tokens.output))));
    } else if tokens.input.max(tokens.output) > 0 {
        add(
            "tokens",
            count(tokens.input.saturating_add(tokens.output)),
            format!("{} in, {} out", count(tokens.input), count(tokens.output)),
        );
    }
    figures
}

fn latencies(report: &Report) -> Vec<[String; 7]> {
    let kinds = [
        ("answered", &report.latency_ms.ok),
        ("failed", &report.latency_ms.failed),
        ("first chunk", &report.first_chunk_ms),
        ("whole row", &report.row_ms),
    ];
    let line = |(name, of): (&str, &Distribution)| {
        let figures = [of.min?, of.p50?, of.p90?, of.p95?, of.p99?, of.max?].map(millis);
        let [min, p50, p90, p95, p99, max] = figures;
        Some([name.to_owned(), min, p50, p90, p95, p99, max])
    };
    kinds.into_iter().filter_map(line).collect()
}

fn classes(report: &Report, fold: &Fold) -> Vec<Class> {
    let failed = &report.rows.failed_by_class;
    // Rows that were never called have a class but no attempt.
    let uncalled = failed
        .most_frequent_first()
        .into_iter()
        .filter(|(class, _)| report.attempts.by_error.get(class) == 0);
    let called = report.attempts.by_error.most_frequent_first().into_iter();
    let class = |(class, attempts): (&str, u64)| {
        let example = fold.course.examples.iter().find(|(known, ..)| **known == *class);
        Class {
            name: brief(class, NAME),
            attempts: count(attempts),
            rows: count(failed.get(class)),
            example: example.map_or_else(String::new, |(_, row, message)| {
                let hint = hint_of(class).map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
                format!("row {row}: {}{hint}", brief(message, MESSAGE))
            }),
        }
    };
    called.chain(uncalled.map(|(class, _)| (class, 0))).take(20).map(class).collect()
}

fn failure(of: &FailedAttempt) -> Failure {
    let (class, message) = (&of.failure.class, &of.failure.message);
    let text = if message.is_empty() { class.to_string() } else { format!("{class}: {message}") };
    Failure { row: of.row, number: of.number, at: duration(of.ended), error: brief(&text, MESSAGE) }
}

fn slow(span: &Span) -> Slow {
    let error = span.failure.as_ref().map(|(class, message)| brief(&format!("{class}: {message}"), MESSAGE));
    let time = |time: Duration| if time.is_zero() { "–".to_owned() } else { duration(time) };
    Slow {
        row: span.row,
        times: [span.took(), span.queued, span.running, span.backoff].map(time),
        attempts: span.attempts,
        status: if span.failure.is_some() { "failed" } else { "ok" },
        error: error.unwrap_or_default(),
    }
}

fn tokens(report: &Report) -> Vec<(&'static str, String)> {
    let tokens = &report.tokens;
    if tokens.input.max(tokens.output).max(tokens.calls) == 0 {
        return Vec::new();
    }
    let per_row = |all: u64| {
        if report.rows.ok == 0 {
            String::new()
        } else {
            format!(" ({} an answered row)", figure(all as f64 / report.rows.ok as f64))
        }
    };
    let cost = report.cost_usd.map_or_else(|| "no price is known".to_owned(), dollars);
    vec![
        ("tokens in", count(tokens.input) + &per_row(tokens.input)),
        ("tokens out", count(tokens.output) + &per_row(tokens.output)),
        ("requests to the model", count(tokens.calls)),
        ("cost", cost),
    ]
}

fn settings(report: &Report) -> Vec<(&'static str, String)> {
    let run = &report.run;
    let foreign = |text: &str| escape(text).into_owned();
    let versions: Vec<_> =
        run.versions.iter().map(|(name, version)| format!("{} {}", escape(name), escape(version))).collect();
    let journal = &report.journal;
    let event_loop = &report.event_loop;
    let mut settings = vec![
        ("command", run.argv.iter().map(|word| argument(word.as_ref())).collect::<Vec<_>>().join(" ")),
        ("input", foreign(&run.input)),
        ("input SHA-256", foreign(&run.input_sha256)),
        (
            "rows",
            format!(
                "{} selected, {} skipped, {} answered before",
                count(report.rows.total),
                count(report.rows.skipped),
                count(report.rows.resumed)
            ),
        ),
        ("shard", run.shard.map_or_else(String::new, |shard| shard.to_string())),
        ("predictor", foreign(&run.predictor)),
        ("predictor changed", versions::line(report).unwrap_or_default()),
        ("bridge", foreign(&run.bridge)),
        (
            "event loop",
            format!("{}, held up for {} at most", escape(&event_loop.name), millis(event_loop.max_lag_ms)),
        ),
        ("versions", versions.join(", ")),
        ("started", foreign(&run.started_at)),
        ("finished", foreign(&run.finished_at)),
        (
            "before the first call",
            format!(
                "{} to start Python, {} to check the input",
                seconds(report.startup_s),
                seconds(report.validate_s)
            ),
        ),
        ("after the last", format!("{} to write the answers", seconds(report.project_s))),
        ("calls abandoned", count(report.attempts.abandoned)),
        (
            "journal",
            format!(
                "{} bytes, {}, {} at most unsynced",
                count(journal.bytes),
                counted(journal.syncs, "sync"),
                millis(journal.longest_unsynced_ms)
            ),
        ),
        ("cores", run.host_cores.to_string()),
    ];
    let mut blocked: Vec<_> = event_loop.blocked.iter().collect();
    blocked.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    for blocked in blocked.into_iter().take(10) {
        let row = blocked.row.map_or_else(String::new, |row| format!(", row {row}"));
        settings.push((
            "event loop blocked",
            format!("{} at {}{row}", millis(blocked.ms), brief(&blocked.place, MESSAGE)),
        ));
    }
    settings.retain(|(_, value)| !value.is_empty());
    settings
}
