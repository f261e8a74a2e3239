//! The charts of latencies: how often each occurred, and when.

use std::time::Duration;

use super::chart::{Cells, Chart};
use super::over_time::time_axis;
use super::scale::{Scale, label, time_label};
use crate::report::Report;
use crate::report::text::{count, counted, millis};
use crate::stats::{Course, Stats, latency_from};

/// Pixels.
const HEIGHT: f64 = 180.0;
const BARS: usize = 48;
/// The grid of the density.
const COLUMNS: usize = 96;
const ROWS: usize = 36;
const FEWEST_ROWS: usize = 9;
const LEVELS: [&str; 6] = ["d1", "d2", "d3", "d4", "d5", "d6"];
/// From this ratio of the longest to the shortest on, the axis counts doublings.
const WIDE: f64 = 20.0;
/// What is shorter is shown as this long.
const SHORTEST_S: f64 = 1e-6;

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
        // Latencies that are all alike are no line at the edge.
        let margin = ((most - least) * 0.04).max(least * 0.02);
        Scale::between(least - margin, most + margin)
    };
    let mut bars = [[0_u64; 2]; BARS];
    for (kind, counts) in [&ok, &failed].into_iter().enumerate() {
        for (span, count) in counts {
            bars[((along.share(*span) * BARS as f64) as usize).min(BARS - 1)][kind] += count;
        }
    }
    let up =
        Scale::up_to(bars.iter().map(|[ok, failed]| ok + failed).max().unwrap_or_default() as f64 * 1.35);
    let of = if report.latency_ms.ok.count > 0 { &report.latency_ms.ok } else { &report.latency_ms.failed };
    let percentiles = [("p50", of.p50), ("p90", of.p90), ("p99", of.p99)];
    let percentiles = percentiles.into_iter().filter_map(|(name, figure)| Some((name, figure?)));
    let words: Vec<String> =
        percentiles.clone().map(|(name, figure)| format!("{name} {}", millis(figure))).collect();
    let says = format!(
        "How often each latency occurred, from {} to {}: {}.",
        time_label(least),
        time_label(most),
        words.join(", ")
    );
    let mut chart = Chart { says, height: HEIGHT, ..Chart::default() };
    for tick in along.ticks(6) {
        chart.tick_x(along.share(tick), time_label(tick));
    }
    for tick in up.ticks(4) {
        chart.tick_y(up.share(tick), label(tick));
    }
    for (bar, [ok, failed]) in bars.into_iter().enumerate() {
        let side = |bar: usize| bar as f64 / BARS as f64;
        let parts = [("ok", up.share(ok as f64)), ("failed", up.share(failed as f64))];
        let title = format!("{} answered, {} failed", count(ok), count(failed));
        chart.pile(side(bar), side(bar + 1), &parts, &title);
    }
    for (row, (figure, words)) in (0..).zip(percentiles.map(|(_, figure)| figure).zip(words)) {
        chart.rule(along.share(figure / 1e3), row, words);
    }
    let kinds = [("ok", "answered", &ok), ("failed", "failed", &failed)];
    let kinds = kinds.into_iter().filter(|(.., counts)| !counts.is_empty());
    chart.legend = kinds.map(|(class, words, _)| (class, words.to_owned())).collect();
    chart
}

/// When which latencies occurred: the more rows, the stronger the colour.
pub(super) fn density(course: &Course) -> Chart {
    let (width, moments) = course.moments.at_most(COLUMNS);
    let bins = || moments.iter().flat_map(|moment| moment.latencies.iter().map(|(bin, _)| bin));
    let (Some(least), Some(most)) = (bins().min(), bins().max()) else { return Chart::default() };
    // Latencies that are all alike are a line, not the whole picture.
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
    let until = width.as_secs_f64() * moments.len() as f64 / course.length().as_secs_f64();
    let mut grid = Cells::new(moments.len(), until, HEIGHT / rows as f64, LEVELS.len());
    for (column, counts) in cells.iter().enumerate() {
        for (row, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            grid.fill(level(*count, densest), column, rows - 1 - row);
        }
    }
    let (shortest, longest) = (latency_from(least) / 1e3, latency_from(least + rows * together) / 1e3);
    let says = format!(
        "When which latencies occurred, from {} to {}; at most {} in a cell.",
        time_label(shortest),
        time_label(longest),
        counted(densest, "row")
    );
    let mut chart = Chart { says, height: HEIGHT, shapes: grid.shapes(&LEVELS), ..Chart::default() };
    time_axis(&mut chart, course);
    let up = Scale::logarithmic(shortest, longest);
    for tick in up.ticks(5) {
        chart.tick_y(up.share(tick), time_label(tick));
    }
    chart.legend.push((LEVELS[level(1, densest)], "1 row".to_owned()));
    if densest > 1 {
        chart.legend.push((LEVELS[LEVELS.len() - 1], counted(densest, "row")));
    }
    chart
}

/// The colour of a cell, as eyes see it: each level is as many times as dense as the one before.
fn level(count: u64, densest: u64) -> usize {
    let share = (count as f64).ln_1p() / (densest as f64).ln_1p();
    (share * (LEVELS.len() - 1) as f64).round() as usize
}
