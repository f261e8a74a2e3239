//! Says in one sentence where a run's time went.

use super::Report;
use super::text::{brief, count, figure, seconds};

/// A wait that takes a smaller share of the wall time is not worth a verdict.
const MUCH: f64 = 0.1;
/// The same for waits to retry, as a share of the rows' time.
const MUCH_OF_ROWS: f64 = 0.25;
/// With this share of the allowed calls in flight, a run was as busy as it could be.
const BUSY: f64 = 0.8;
/// The most kinds of errors that are named.
const KINDS: usize = 3;
/// Columns of a place's or a class's name.
const NAME: usize = 60;

/// The verdict on a run; `None` if nothing was called.
pub(crate) fn verdict(report: &Report) -> Option<String> {
    let wall = report.wall_s;
    if report.attempts.total == 0 || wall <= 0.0 {
        return None;
    }
    Some(
        held_back(report, wall).or_else(|| blocked(report, wall)).or_else(|| retried(report)).unwrap_or_else(
            || {
                let (mean, allowed) = (report.concurrency.achieved_mean, report.concurrency.requested);
                let busy = if mean >= BUSY * allowed as f64 { "nothing held it back: " } else { "" };
                format!("{busy}{} of {} calls in flight on average", figure(mean), count(allowed))
            },
        ),
    )
}

/// The limit that kept calls from being made for the longest time.
fn held_back(report: &Report, wall: f64) -> Option<String> {
    let limited = &report.limited_s;
    let by_status = report.attempts.by_status.iter();
    // The statuses of a server that asks for fewer calls, or those of one that fails.
    let told = |asked: bool| {
        let of = by_status.clone().filter(|(status, _)| [429, 503, 529].contains(*status) == asked);
        most(of.map(|(status, times)| (status.to_string(), *times)).collect())
    };
    let limits = [
        (limited.server, "held back by the server", told(true)),
        (limited.outage, "in an outage of the server", told(false)),
        (limited.rpm, "held back by --rpm", String::new()),
        (limited.tpm, "held back by --tpm", String::new()),
    ];
    let (time, by, why) = limits.into_iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
    (time >= MUCH * wall).then(|| format!("{} {by}{why}", of(time.min(wall), wall)))
}

fn blocked(report: &Report, wall: f64) -> Option<String> {
    let blocked = &report.event_loop.blocked;
    let time = blocked.iter().map(|blocked| blocked.ms).sum::<f64>() / 1e3;
    let worst = blocked.iter().max_by(|a, b| a.ms.total_cmp(&b.ms))?;
    let place = brief(&worst.place, NAME);
    (time >= MUCH * wall)
        .then(|| format!("{} with the event loop blocked: {place}", of(time.min(wall), wall)))
}

fn retried(report: &Report) -> Option<String> {
    let times = &report.time_ms;
    let all = times.starting
        + times.paced
        + times.queued
        + times.running
        + times.backoff
        + times.bridge
        + times.recording;
    let share = times.backoff / all;
    let classes = report.attempts.by_error.most_frequent_first().into_iter();
    let why = most(classes.map(|(class, times)| (brief(class, NAME), times)).collect());
    (share >= MUCH_OF_ROWS)
        .then(|| format!("{:.0} % of the rows' time spent waiting to retry{why}", share * 100.0))
}

/// Formats a part of the wall time: `57.8 of 59.9 s`.
fn of(time: f64, wall: f64) -> String {
    if (1.0..59.95).contains(&wall) {
        format!("{time:.1} of {wall:.1} s")
    } else {
        format!("{} of {}", seconds(time), seconds(wall))
    }
}

/// Lists the most frequent kinds: `: 11 x 429, 2 x 503`; empty if there are none.
fn most(mut kinds: Vec<(String, u64)>) -> String {
    kinds.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    let kinds: Vec<_> =
        kinds.iter().take(KINDS).map(|(kind, times)| format!("{} x {kind}", count(*times))).collect();
    if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_verdict_names_what_took_most_of_the_time_and_how_often() {
        let mut report = sample();
        report.event_loop.blocked.clear();
        let told = |report: &Report| verdict(report).unwrap();
        assert_eq!(told(&report), "nothing held it back: 15.0 of 16 calls in flight on average");
        report.concurrency.achieved_mean = 3.2;
        assert_eq!(told(&report), "3.20 of 16 calls in flight on average");
        report.time_ms.backoff = report.time_ms.running;
        let retried = told(&report);
        assert!(
            retried.ends_with(" % of the rows' time spent waiting to retry: 11 x timeout, 1 x ValueError"),
            "{retried}"
        );
        (report.wall_s, report.limited_s.server, report.limited_s.rpm) = (59.9, 57.8, 1.0);
        report.attempts.by_status = [(429, 11), (503, 2), (500, 7)].into();
        assert_eq!(told(&report), "57.8 of 59.9 s held back by the server: 11 x 429, 2 x 503");
        report.limited_s.outage = 58.0;
        assert_eq!(told(&report), "58.0 of 59.9 s in an outage of the server: 7 x 500");
        report.wall_s = 599.0;
        (report.limited_s.rpm, report.limited_s.outage) = (300.0, 0.0);
        assert_eq!(told(&report), "5 m 00 s of 9 m 59 s held back by --rpm");
        report.attempts.total = 0;
        assert_eq!(verdict(&report), None);
    }
}
