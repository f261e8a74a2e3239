//! What each chart of the page shows.

use std::time::Duration;

use super::chart::{Bar, Cells, Chart, Percent, Pixels, Scale, Tick, label, time_label};
use crate::report::Report;
use crate::report::text::{brief, count, counted, duration, figure, millis};
use crate::stats::{Course, Moment, Span, Stats, latency_from};

/// Heights in pixels: of a chart along the run's time, of one of latencies, of the bar of shares.
const TIME_HEIGHT: f64 = 160.0;
const LATENCY_HEIGHT: f64 = 180.0;
const SHARES_HEIGHT: f64 = 22.0;
/// The most columns along the run's time: drawn as bars, and drawn as steps.
const MOST_BARS: usize = 90;
const MOST_STEPS: usize = 240;
/// The most frequent error classes have a colour of their own.
const COLOURED: [&str; 5] = ["c1", "c2", "c3", "c4", "c5"];
const OTHERS: &str = "c6";
/// Columns of a class's name.
const NAME_WIDTH: usize = 40;
/// Bars of the histogram.
const BARS: usize = 48;
/// From this ratio of the longest latency to the shortest on, the axis is logarithmic.
const WIDE: f64 = 20.0;
/// Shorter latencies, in seconds, are shown as this long.
const SHORTEST_S: f64 = 1e-6;
/// The grid of the density, and its colours.
const COLUMNS: usize = 96;
const ROWS: usize = 36;
const FEWEST_ROWS: usize = 9;
const LEVELS: [&str; 6] = ["d1", "d2", "d3", "d4", "d5", "d6"];
/// Pixels from one row of the waterfall to the next, and of a row's bar: up to [`FEW`] rows, and beyond.
const ROOMY: (f64, f64) = (20.0, 12.0);
const TIGHT: (f64, f64) = (11.0, 8.0);
const FEW: usize = 30;

/// The run in columns of equal time.
struct Columns {
    moments: Vec<Moment>,
    /// Seconds.
    width: f64,
    time: Scale,
}

impl Columns {
    fn of(course: &Course, most: usize) -> Self {
        let (width, moments) = course.moments.at_most(most);
        let time = Scale::up_to(course.length().as_secs_f64());
        Self { moments, width: width.as_secs_f64(), time }
    }

    /// No more bars than make sense for the number of rows.
    fn bars(course: &Course) -> Self {
        Self::of(course, (course.outcomes() as usize / 3).clamp(10, MOST_BARS))
    }

    fn greatest(&self, of: impl Fn(&Moment) -> f64) -> f64 {
        self.moments.iter().map(of).fold(0.0, f64::max)
    }
}

/// A chart along the run's time, with figures up to a greatest one.
fn over_time(course: &Course, up: Scale, says: String) -> Chart {
    let mut chart = Chart { says, height: TIME_HEIGHT, ..Chart::default() };
    time_axis(&mut chart, course);
    chart.ticks_y(up, up.ticks(4), label);
    chart
}

/// Ticks along the run's time, and lines where one session follows another.
fn time_axis(chart: &mut Chart, course: &Course) {
    let length = course.length().as_secs_f64();
    let time = Scale::up_to(length);
    chart.ticks_x(time, time.time_ticks(5), time_label);
    let inner = course.sessions.iter().map(Duration::as_secs_f64).filter(|at| *at < length * 0.999_999);
    for (number, at) in (2..).zip(inner) {
        let words = if number <= 5 { format!("session {number}") } else { String::new() };
        chart.rule(time.share(at), 0, words);
    }
}

/// One pile of bars for each column: the figures by colour, and the words for them.
fn piles(
    course: &Course,
    columns: &Columns,
    says: String,
    of: impl Fn(&Moment) -> (Vec<(&'static str, f64)>, String),
) -> Chart {
    let piles: Vec<_> = columns.moments.iter().map(of).collect();
    let heights = piles.iter().map(|(parts, _)| parts.iter().map(|(_, figure)| figure).sum());
    let up = Scale::up_to(heights.fold(0.0, f64::max) * 1.08);
    let mut chart = over_time(course, up, says);
    for (column, (parts, words)) in piles.into_iter().enumerate() {
        let [from, to] = [column, column + 1].map(|column| columns.width * column as f64);
        let shares: Vec<_> = parts.into_iter().map(|(class, figure)| (class, up.share(figure))).collect();
        let title = format!("{} to {}: {words}", time_label(from), time_label(to));
        chart.pile(columns.time.share(from), columns.time.share(to), &shares, &title);
    }
    chart
}

/// Rows answered and failed a second.
pub(super) fn throughput(report: &Report, course: &Course) -> Chart {
    let columns = Columns::bars(course);
    let rate = |rows: u64| rows as f64 / columns.width;
    let says = format!(
        "Rows a second over the run's time: {} answered a second on average, {} at most.",
        figure(report.rows_per_s),
        figure(columns.greatest(|moment| rate(moment.ok)))
    );
    let mut chart = piles(course, &columns, says, |moment| {
        let words = format!("{} answered, {} failed", count(moment.ok), count(moment.failed));
        (vec![("ok", rate(moment.ok)), ("failed", rate(moment.failed))], words)
    });
    chart.legend.push(("ok", "answered".to_owned()));
    if report.latency_ms.failed.count + report.rows.failed > 0 {
        chart.legend.push(("failed", "failed".to_owned()));
    }
    chart
}

/// Calls in flight, and how many were allowed.
pub(super) fn in_flight(report: &Report, course: &Course) -> Chart {
    let columns = Columns::of(course, MOST_STEPS);
    let calls = |moment: &Moment| moment.running_s / columns.width;
    let concurrency = &report.concurrency;
    let allowed = concurrency.requested as f64;
    let up = Scale::up_to(columns.greatest(calls).max(allowed) * 1.15);
    let says = format!(
        "Calls in flight over the run's time: {} on average of {} allowed.",
        figure(concurrency.achieved_mean),
        count(concurrency.requested)
    );
    let mut chart = over_time(course, up, says);
    let shares: Vec<f64> = columns.moments.iter().map(|moment| up.share(calls(moment))).collect();
    let until = columns.width * columns.moments.len() as f64 / course.length().as_secs_f64();
    chart.steps("running", &shares, until);
    chart.legend.push(("running", "calls in flight".to_owned()));
    if concurrency.requested > 0 {
        chart.limit = Some(TIME_HEIGHT * (1.0 - up.share(allowed)));
        chart.legend.push(("limit", format!("{} allowed", count(concurrency.requested))));
    }
    chart
}

/// Failed attempts by class, the most frequent classes in colours of their own.
pub(super) fn errors(report: &Report, course: &Course) -> Chart {
    let columns = Columns::bars(course);
    let of = |class: usize| columns.moments.iter().map(|moment| moment.errors.get(class)).sum::<u64>();
    let mut named: Vec<(usize, u64)> = (0..course.classes.len()).map(|class| (class, of(class))).collect();
    named.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    named.truncate(COLOURED.len());
    let name = |class: usize| brief(&course.classes[class], NAME_WIDTH);
    let failed = report.attempts.by_error.total();
    let says = format!("Failed attempts over the run's time by class: {} in all.", count(failed));
    let mut chart = piles(course, &columns, says, |moment| {
        let counts = COLOURED.into_iter().zip(&named);
        let of = |(colour, (class, _)): (&'static str, &(usize, u64))| {
            (colour, moment.errors.get(*class), name(*class))
        };
        let mut counts: Vec<_> = counts.map(of).collect();
        let all: u64 = moment.errors.iter().map(|(_, count)| count).sum();
        let others = all - counts.iter().map(|(_, count, _)| count).sum::<u64>();
        counts.push((OTHERS, others, "others".to_owned()));
        let told = counts.iter().filter(|(_, failed, _)| *failed > 0);
        let words: Vec<_> = told.map(|(_, failed, name)| format!("{} {name}", count(*failed))).collect();
        (counts.into_iter().map(|(colour, failed, _)| (colour, failed as f64)).collect(), words.join(", "))
    });
    let words = named.iter().map(|(class, total)| format!("{} {}", count(*total), name(*class)));
    chart.legend = COLOURED.into_iter().zip(words).collect();
    let coloured: u64 = named.iter().map(|(_, total)| total).sum();
    if failed > coloured {
        chart.legend.push((OTHERS, format!("{} others", count(failed - coloured))));
    }
    chart
}

/// Attempts that followed a failed one.
pub(super) fn retries(report: &Report, course: &Course) -> Chart {
    let says = format!("Retries over the run's time: {} in all.", count(report.attempts.retries));
    let mut chart = piles(course, &Columns::bars(course), says, |moment| {
        (vec![("backoff", moment.retries as f64)], counted(moment.retries, "retry"))
    });
    chart.legend.push(("backoff", "retries".to_owned()));
    chart
}

/// How often each latency occurred, answers and failures piled, with the answers' percentiles.
pub(super) fn histogram(report: &Report, stats: &Stats) -> Chart {
    let seconds = |counts: Vec<(Duration, u64)>| -> Vec<(f64, u64)> {
        counts.into_iter().map(|(span, count)| (span.as_secs_f64().max(SHORTEST_S), count)).collect()
    };
    let (ok, failed) = (seconds(stats.latencies_ok()), seconds(stats.latencies_failed()));
    let all = || ok.iter().chain(&failed).map(|(span, _)| *span);
    let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let along = if most > least * WIDE {
        Scale::logarithmic(least * 0.9, most * 1.1)
    } else {
        // Keeps latencies that are all alike away from the edge.
        let margin = ((most - least) * 0.04).max(least * 0.02);
        Scale::between(least - margin, most + margin)
    };
    let mut bars = [[0; 2]; BARS];
    for (kind, counts) in [&ok, &failed].into_iter().enumerate() {
        for (span, count) in counts {
            bars[((along.share(*span) * BARS as f64) as usize).min(BARS - 1)][kind] += count;
        }
    }
    let up = Scale::up_to(bars.iter().map(|[ok, failed]| ok + failed).fold(0, u64::max) as f64 * 1.35);
    let of = if report.latency_ms.ok.count > 0 { &report.latency_ms.ok } else { &report.latency_ms.failed };
    let percentiles = [("p50", of.p50), ("p90", of.p90), ("p99", of.p99)].into_iter();
    let told = |(name, figure): (&str, Option<f64>)| Some((figure?, format!("{name} {}", millis(figure?))));
    let percentiles: Vec<(f64, String)> = percentiles.filter_map(told).collect();
    let words: Vec<_> = percentiles.iter().map(|(_, words)| words.as_str()).collect();
    let [from, to] = [least, most].map(time_label);
    let says = format!("How often each latency occurred, from {from} to {to}: {}.", words.join(", "));
    let mut chart = Chart { says, height: LATENCY_HEIGHT, ..Chart::default() };
    chart.ticks_x(along, along.ticks(6), time_label);
    chart.ticks_y(up, up.ticks(4), label);
    for (bar, [ok, failed]) in bars.into_iter().enumerate() {
        let [from, to] = [bar, bar + 1].map(|bar| bar as f64 / BARS as f64);
        let parts = [("ok", up.share(ok as f64)), ("failed", up.share(failed as f64))];
        chart.pile(from, to, &parts, &format!("{} answered, {} failed", count(ok), count(failed)));
    }
    for (row, (figure, words)) in (0..).zip(percentiles) {
        chart.rule(along.share(figure / 1e3), row, words);
    }
    let kinds = [(ok, ("ok", "answered".to_owned())), (failed, ("failed", "failed".to_owned()))];
    chart.legend = kinds.into_iter().filter(|(all, _)| !all.is_empty()).map(|(_, kind)| kind).collect();
    chart
}

/// When which latencies occurred: the more rows, the stronger the colour.
pub(super) fn density(course: &Course) -> Chart {
    let Columns { moments, width, .. } = Columns::of(course, COLUMNS);
    let bins = || moments.iter().flat_map(|moment| moment.latencies.iter().map(|(bin, _)| bin));
    let (Some(least), Some(most)) = (bins().min(), bins().max()) else { return Chart::default() };
    // Keeps latencies that are all alike from filling the whole picture.
    let margin = FEWEST_ROWS.saturating_sub(most + 1 - least).div_ceil(2);
    let (least, most) = (least.saturating_sub(margin), most + margin);
    let together = (most + 1 - least).div_ceil(ROWS);
    let rows = (most + 1 - least).div_ceil(together);
    let mut cells = vec![vec![0_u64; rows]; moments.len()];
    for (column, moment) in cells.iter_mut().zip(&moments) {
        for (bin, count) in moment.latencies.iter() {
            column[(bin - least) / together] += count;
        }
    }
    let densest = cells.iter().flatten().copied().max().unwrap_or_default();
    let until = width * moments.len() as f64 / course.length().as_secs_f64();
    let mut grid = Cells::new(moments.len(), until, LATENCY_HEIGHT / rows as f64, LEVELS.len());
    for (column, counts) in cells.iter().enumerate() {
        for (row, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            grid.fill(level(*count, densest), column, rows - 1 - row);
        }
    }
    let (shortest, longest) = (latency_from(least) / 1e3, latency_from(least + rows * together) / 1e3);
    let ([from, to], most) = ([shortest, longest].map(time_label), counted(densest, "row"));
    let says = format!("When which latencies occurred, from {from} to {to}; at most {most} in a cell.");
    let mut chart = Chart { says, height: LATENCY_HEIGHT, shapes: grid.shapes(&LEVELS), ..Chart::default() };
    time_axis(&mut chart, course);
    let up = Scale::logarithmic(shortest, longest);
    chart.ticks_y(up, up.ticks(5), time_label);
    chart.legend.push((LEVELS[level(1, densest)], "1 row".to_owned()));
    if densest > 1 {
        chart.legend.push((LEVELS[LEVELS.len() - 1], most));
    }
    chart
}

/// The colour of a cell. Eyes see ratios, so each level stands for a multiple of the density of the one before.
fn level(count: u64, densest: u64) -> usize {
    let share = (count as f64).ln_1p() / (densest as f64).ln_1p();
    (share * (LEVELS.len() - 1) as f64).round() as usize
}

/// Each row from being read to being recorded; `None` for large runs.
pub(super) fn waterfall(course: &Course) -> Option<Chart> {
    let spans = course.spans();
    if spans.is_empty() {
        return None;
    }
    let (pitch, thick) = if spans.len() <= FEW { ROOMY } else { TIGHT };
    let says = format!("When each of {} rows waited, ran and was tried again.", spans.len());
    let mut chart = Chart { says, height: pitch * spans.len() as f64, named: true, ..Chart::default() };
    time_axis(&mut chart, course);
    let time = Scale::up_to(course.length().as_secs_f64());
    for (place, span) in spans.iter().enumerate() {
        let top = pitch * place as f64;
        chart.y.push(Tick { at: Pixels(top + pitch / 2.0), anchor: "end", label: span.row.to_string() });
        let title = format!(
            "row {}: {} in {}, {} waiting for its turn, {} running, {} backing off",
            span.row,
            if span.failure.is_some() { "failed" } else { "answered" },
            duration(span.took()),
            duration(span.queued),
            duration(span.running),
            duration(span.backoff)
        );
        for (class, from, to) in segments(span) {
            let (from, to) = (time.share(from), time.share(to));
            // A call too short to be seen is drawn all the same.
            let is_call = ["earlier", "last-ok", "last-failed"].contains(&class);
            let width = if is_call { (to - from).max(0.002) } else { to - from };
            if width > 0.0 {
                let (x, y) = (Percent(from.min(0.998)), Pixels(top + (pitch - thick) / 2.0));
                let (width, height) = (Percent(width), Pixels(thick));
                chart.bars.push(Bar { class, x, width, y, height, title: title.clone() });
            }
        }
    }
    let kinds = [
        ("queued", "waited for its turn"),
        ("earlier", "failed attempts"),
        ("backoff", "waited to retry"),
        ("last-ok", "last attempt, answered"),
        ("last-failed", "last attempt, failed"),
    ];
    let occurs = |class: &str| chart.bars.iter().any(|bar| bar.class == class);
    let legend = kinds.into_iter().filter(|(class, _)| occurs(class));
    chart.legend = legend.map(|(class, words)| (class, words.to_owned())).collect();
    Some(chart)
}

/// The parts of a row's time, each with its colour, and from when to when it lasted, in seconds.
fn segments(span: &Span) -> Vec<(&'static str, f64, f64)> {
    let [from, to, queued, backoff, last] =
        [span.from, span.to, span.queued, span.backoff, span.last].map(|time| time.as_secs_f64());
    let called = (from + queued).min(to);
    let last = (to - last).max(called);
    let seconds = |(began, ended): &(Duration, Duration)| (began.as_secs_f64(), ended.as_secs_f64());
    let earlier: Vec<_> = span.earlier.iter().map(seconds).collect();
    let mut parts = Vec::new();
    if let Some((first, _)) = earlier.first()
        && span.is_told()
    {
        parts.push(("queued", from, *first));
        let next = earlier[1..].iter().map(|(began, _)| *began).chain([last]);
        // The journal keeps the sum of the waits to retry, which is shared out among the gaps that hold it.
        let mut left = backoff;
        for (gaps, ((began, ended), next)) in (1..=earlier.len()).rev().zip(earlier.iter().zip(next)) {
            let wait = (left / gaps as f64).min(next - ended).max(0.0);
            left -= wait;
            let waited = ended + wait;
            parts.extend([
                ("earlier", *began, *ended),
                ("backoff", *ended, waited),
                ("queued", waited, next),
            ]);
        }
    } else {
        parts.push(("queued", from, called));
        if span.attempts > 1 {
            let ended = (last - backoff).max(called);
            parts.extend([("earlier", called, ended), ("backoff", ended, last)]);
        }
    }
    if span.attempts > 0 {
        parts.push((if span.failure.is_some() { "last-failed" } else { "last-ok" }, last, to));
    }
    parts
}

/// Where the rows' time went, as shares of one bar; `None` where there was none.
pub(super) fn shares(report: &Report) -> Option<Chart> {
    let times = &report.time_ms;
    let parts = [
        ("starting", "being started", times.starting),
        ("paced", "held back by a limit", times.paced),
        ("queued", "waiting for a slot", times.queued),
        ("bridge", "crossing to Python and back", times.bridge),
        ("running", "running", times.running),
        ("backoff", "waiting to retry", times.backoff),
        ("recording", "being recorded", times.recording),
    ];
    let total: f64 = parts.iter().map(|(.., time)| time).sum();
    if total <= 0.0 {
        return None;
    }
    let mut chart = Chart { height: SHARES_HEIGHT, ..Chart::default() };
    let mut from = 0.0;
    for (class, words, time) in parts.into_iter().filter(|(.., time)| *time > 0.0) {
        let share = time / total;
        let title = format!("{words} {} ({:.1} %)", millis(time), share * 100.0);
        chart.legend.push((class, title.clone()));
        let (x, width) = (Percent(from), Percent(share));
        chart.bars.push(Bar { class, x, width, y: Pixels(0.0), height: Pixels(SHARES_HEIGHT), title });
        from += share;
    }
    let words: Vec<_> = chart.legend.iter().map(|(_, words)| words.as_str()).collect();
    chart.says = format!("Where the rows' time went: {}.", words.join(", "));
    Some(chart)
}
