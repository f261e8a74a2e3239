//! The charts along the run's time: rows a second, calls in flight, failed attempts, retries.

use std::time::Duration;

use super::chart::{Chart, Pixels};
use super::scale::{Scale, label, time_label};
use crate::report::Report;
use crate::report::text::{brief, count, figure};
use crate::stats::{Course, Moment};

/// Pixels.
const HEIGHT: f64 = 160.0;
/// Columns at most, where each is a bar and where they are steps.
const MOST_BARS: usize = 90;
const MOST_STEPS: usize = 240;
/// So many error classes have a colour of their own.
const COLOURED: [&str; 5] = ["c1", "c2", "c3", "c4", "c5"];
const OTHERS: &str = "c6";
/// Columns of a class's name.
const NAME_WIDTH: usize = 40;

/// The run in columns of equal time.
struct Columns {
    moments: Vec<Moment>,
    width: Duration,
    time: Scale,
}

impl Columns {
    fn of(course: &Course, most: usize) -> Self {
        let (width, moments) = course.moments.at_most(most);
        Self { moments, width, time: Scale::up_to(course.length().as_secs_f64()) }
    }

    /// As many bars as make sense for so few rows.
    fn bars(course: &Course) -> Self {
        Self::of(course, (course.outcomes() as usize / 3).clamp(10, MOST_BARS))
    }

    fn seconds(&self) -> f64 {
        self.width.as_secs_f64()
    }

    fn start(&self, column: usize) -> f64 {
        self.seconds() * column as f64
    }

    /// From where to where a column goes, in shares of the width.
    fn sides(&self, column: usize) -> (f64, f64) {
        (self.time.share(self.start(column)), self.time.share(self.start(column + 1)))
    }

    fn greatest(&self, of: impl Fn(&Moment) -> f64) -> f64 {
        self.moments.iter().map(of).fold(0.0, f64::max)
    }
}

/// A chart with its axes: time, and figures up to a greatest one.
fn axes(course: &Course, up: Scale, says: String) -> Chart {
    let mut chart = Chart { says, height: HEIGHT, ..Chart::default() };
    time_axis(&mut chart, course);
    for tick in up.ticks(4) {
        chart.tick_y(up.share(tick), label(tick));
    }
    chart
}

/// Ticks along the run's time, and lines where one session follows another.
pub(super) fn time_axis(chart: &mut Chart, course: &Course) {
    let length = course.length().as_secs_f64();
    let time = Scale::up_to(length);
    for tick in time.time_ticks(5) {
        chart.tick_x(time.share(tick), time_label(tick));
    }
    let inner = course.sessions.iter().map(Duration::as_secs_f64).filter(|at| *at < length * 0.999_999);
    for (number, at) in (2..).zip(inner) {
        let words = if number <= 5 { format!("session {number}") } else { String::new() };
        chart.rule(time.share(at), 0, words);
    }
}

/// Rows answered and failed a second.
pub(super) fn throughput(report: &Report, course: &Course) -> Chart {
    let columns = Columns::bars(course);
    let rate = |rows: u64| rows as f64 / columns.seconds();
    let up = Scale::up_to(columns.greatest(|moment| rate(moment.ok + moment.failed)) * 1.08);
    let says = format!(
        "Rows a second over the run's time: {} answered a second on average, {} at most.",
        figure(report.rows_per_s),
        figure(columns.greatest(|moment| rate(moment.ok)))
    );
    let mut chart = axes(course, up, says);
    for (column, moment) in columns.moments.iter().enumerate() {
        let (from, to) = columns.sides(column);
        let parts = [("ok", up.share(rate(moment.ok))), ("failed", up.share(rate(moment.failed)))];
        let title = format!(
            "{} to {}: {} answered, {} failed",
            time_label(columns.start(column)),
            time_label(columns.start(column + 1)),
            count(moment.ok),
            count(moment.failed)
        );
        chart.pile(from, to, &parts, &title);
    }
    chart.legend.push(("ok", "answered".to_owned()));
    if report.latency_ms.failed.count + report.rows.failed > 0 {
        chart.legend.push(("failed", "failed".to_owned()));
    }
    chart
}

/// Calls in flight, and how many were allowed.
pub(super) fn in_flight(report: &Report, course: &Course) -> Chart {
    let columns = Columns::of(course, MOST_STEPS);
    let calls = |moment: &Moment| moment.running_s / columns.seconds();
    let concurrency = &report.concurrency;
    let up = Scale::up_to(columns.greatest(calls).max(concurrency.requested as f64) * 1.15);
    let says = format!(
        "Calls in flight over the run's time: {} on average of {} allowed.",
        figure(concurrency.achieved_mean),
        count(concurrency.requested)
    );
    let mut chart = axes(course, up, says);
    let shares: Vec<f64> = columns.moments.iter().map(|moment| up.share(calls(moment))).collect();
    let until = columns.start(columns.moments.len()) / course.length().as_secs_f64();
    chart.steps("running", &shares, until);
    chart.legend.push(("running", "calls in flight".to_owned()));
    if concurrency.requested > 0 {
        chart.limit = Some(Pixels(HEIGHT * (1.0 - up.share(concurrency.requested as f64))).0);
        chart.legend.push(("limit", format!("{} allowed", count(concurrency.requested))));
    }
    chart
}

/// Failed attempts by class, the most frequent classes in colours of their own.
pub(super) fn errors(report: &Report, course: &Course) -> Chart {
    let columns = Columns::bars(course);
    let mut named: Vec<(usize, u64)> = (0..course.classes.len())
        .map(|class| (class, columns.moments.iter().map(|moment| moment.errors.get(class)).sum()))
        .collect();
    named.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    named.truncate(COLOURED.len());
    let all = |moment: &Moment| moment.errors.iter().map(|(_, count)| count).sum::<u64>();
    let up = Scale::up_to(columns.greatest(|moment| all(moment) as f64) * 1.08);
    let failed = report.attempts.by_error.total();
    let says = format!("Failed attempts over the run's time by class: {} in all.", count(failed));
    let mut chart = axes(course, up, says);
    let mut coloured = 0;
    for (column, moment) in columns.moments.iter().enumerate() {
        let (from, to) = columns.sides(column);
        let counts: Vec<u64> = named.iter().map(|(class, _)| moment.errors.get(*class)).collect();
        let others = all(moment) - counts.iter().sum::<u64>();
        coloured += counts.iter().sum::<u64>();
        let names = named.iter().map(|(class, _)| brief(&course.classes[*class], NAME_WIDTH));
        let words: Vec<String> = counts
            .iter()
            .zip(names)
            .chain((others > 0).then(|| (&others, "others".to_owned())))
            .filter(|(failed, _)| **failed > 0)
            .map(|(failed, name)| format!("{} {name}", count(*failed)))
            .collect();
        let title = format!("{}: {}", time_label(columns.start(column)), words.join(", "));
        let counts = COLOURED.into_iter().zip(counts).chain([(OTHERS, others)]);
        let parts: Vec<_> = counts.map(|(class, count)| (class, up.share(count as f64))).collect();
        chart.pile(from, to, &parts, &title);
    }
    for (colour, (class, total)) in COLOURED.into_iter().zip(named) {
        chart
            .legend
            .push((colour, format!("{} {}", count(total), brief(&course.classes[class], NAME_WIDTH))));
    }
    if failed > coloured {
        chart.legend.push((OTHERS, format!("{} others", count(failed - coloured))));
    }
    chart
}

/// Attempts that followed a failed one.
pub(super) fn retries(report: &Report, course: &Course) -> Chart {
    let columns = Columns::bars(course);
    let up = Scale::up_to(columns.greatest(|moment| moment.retries as f64) * 1.08);
    let says = format!("Retries over the run's time: {} in all.", count(report.attempts.retries));
    let mut chart = axes(course, up, says);
    for (column, moment) in columns.moments.iter().enumerate() {
        let (from, to) = columns.sides(column);
        let title = format!("{}: {} retries", time_label(columns.start(column)), count(moment.retries));
        chart.pile(from, to, &[("backoff", up.share(moment.retries as f64))], &title);
    }
    chart.legend.push(("backoff", "retries".to_owned()));
    chart
}
