//! The charts of rows' own time: each row's way for small runs, and where the time of all went.

use super::chart::{Bar, Chart, Percent, Pixels};
use super::over_time::time_axis;
use super::scale::Scale;
use crate::report::Report;
use crate::report::text::{duration, millis};
use crate::stats::{Course, Span};

/// Pixels of a row, and of its bar, where there are few rows and where there are many.
const ROOMY: (f64, f64) = (20.0, 12.0);
const TIGHT: (f64, f64) = (11.0, 8.0);
/// So many rows are few.
const FEW: usize = 30;
/// Pixels of the bar that shows where the time went.
const SHARES_HEIGHT: f64 = 22.0;

/// Each row from its being read to its being recorded; none for large runs.
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
        let middle = Pixels(top + pitch / 2.0);
        chart.y.push(super::chart::Tick { at: middle, anchor: "end", label: span.row.to_string() });
        let title = title(span);
        let mut add = |class, from: f64, to: f64| {
            let (from, to) = (time.share(from), time.share(to));
            // A call too short to be seen is seen all the same.
            let is_call = ["earlier", "last-ok", "last-failed"].contains(&class);
            let width = if is_call { (to - from).max(0.002) } else { to - from };
            if width > 0.0 {
                let y = Pixels(top + (pitch - thick) / 2.0);
                let title = title.clone();
                chart.bars.push(Bar {
                    class,
                    x: Percent(from.min(0.998)),
                    width: Percent(width),
                    y,
                    height: Pixels(thick),
                    title,
                });
            }
        };
        let (from, to) = (span.from.as_secs_f64(), span.to.as_secs_f64());
        let called = (from + span.queued.as_secs_f64()).min(to);
        let last = (to - span.last.as_secs_f64()).max(called);
        let backoff = (last - span.backoff.as_secs_f64()).max(called);
        if let Some((first, _)) = span.earlier.first()
            && span.is_told()
        {
            add("queued", from, first.as_secs_f64());
            let next = span.earlier[1..].iter().map(|(began, _)| began.as_secs_f64()).chain([last]);
            // How long each wait to retry was is not recorded: their sum is shared out among the gaps that hold it.
            let mut left = span.backoff.as_secs_f64();
            for (gaps, ((began, ended), next)) in
                (1..=span.earlier.len()).rev().zip(span.earlier.iter().zip(next))
            {
                let (began, ended) = (began.as_secs_f64(), ended.as_secs_f64());
                let backoff = (left / gaps as f64).min(next - ended).max(0.0);
                left -= backoff;
                add("earlier", began, ended);
                add("backoff", ended, ended + backoff);
                add("queued", ended + backoff, next);
            }
        } else {
            add("queued", from, called);
            if span.attempts > 1 {
                add("earlier", called, backoff);
                add("backoff", backoff, last);
            }
        }
        if span.attempts > 0 {
            add(if span.failure.is_some() { "last-failed" } else { "last-ok" }, last, to);
        }
    }
    let occurs = |class: &str, bars: &[Bar]| bars.iter().any(|bar| bar.class == class);
    let kinds = [
        ("queued", "waited for its turn"),
        ("earlier", "failed attempts"),
        ("backoff", "waited to retry"),
        ("last-ok", "last attempt, answered"),
        ("last-failed", "last attempt, failed"),
    ];
    let legend = kinds.into_iter().filter(|(class, _)| occurs(class, &chart.bars));
    chart.legend = legend.map(|(class, words)| (class, words.to_owned())).collect();
    Some(chart)
}

fn title(span: &Span) -> String {
    format!(
        "row {}: {} in {}, {} waiting for its turn, {} running, {} backing off",
        span.row,
        if span.failure.is_some() { "failed" } else { "answered" },
        duration(span.to.saturating_sub(span.from)),
        duration(span.queued),
        duration(span.running),
        duration(span.backoff)
    )
}

/// Where the rows' time went, as shares of one bar; none where there was none.
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
        let words = format!("{words} {} ({:.1} %)", millis(time), share * 100.0);
        chart.bars.push(Bar {
            class,
            x: Percent(from),
            width: Percent(share),
            y: Pixels(0.0),
            height: Pixels(SHARES_HEIGHT),
            title: words.clone(),
        });
        chart.legend.push((class, words));
        from += share;
    }
    let words: Vec<&str> = chart.legend.iter().map(|(_, words)| words.as_str()).collect();
    chart.says = format!("Where the rows' time went: {}.", words.join(", "));
    Some(chart)
}
