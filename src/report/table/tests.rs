//! What the summary of a run looks like, at several widths.

use super::*;
use crate::report::tests::{sample, workers};
use crate::report::{RowCounts, Tokens};
use crate::stats::Stats;
use crate::usage::ClassCounts;

const LOOK: Look = Look { color: false, width: 80 };

fn shown(report: &Report) -> String {
    let files = Files {
        answers: Path::new("questions.answers.csv"),
        report: Some(Path::new("questions.answers.csv.report.json")),
        page: Some(Path::new("questions.answers.csv.report.html")),
        resume: "tokio-asyncio-bridge resume questions.answers.csv",
    };
    summary(report, files, LOOK)
}

#[test]
fn a_run_with_failures_names_them_and_the_command_that_takes_them_up() {
    insta::assert_snapshot!(shown(&sample()), @r"
    Answered 1,196 of 1,201 rows in 48.0 s (24.9 rows/s)

      Resumed        100 rows answered before
      Failed         4 rows: 3 timeout, 1 ValueError
      Unfinished     1 row
      Latency                 p50         p90         p99         max
        answered           599 ms      1.08 s      1.19 s      1.20 s
        failed             600 ms      1.20 s      1.20 s      1.20 s
        whole row          1.20 s      2.16 s      2.38 s      2.40 s
      Concurrency    15.0 on average, 16 at most, 16 requested
      Attempts       1,208 (8 retries, 11 timeouts, 0 abandoned)
      Tokens         1,200,000 in, 24,000 out, $0.29
      Event loop     blocked for 25 ms by predictor.py:12 in answer
      Answers        questions.answers.csv
      Report         questions.answers.csv.report.html
                     questions.answers.csv.report.json

    To answer the 5 rows that are left:
      tokio-asyncio-bridge resume questions.answers.csv
    ");
}

#[test]
fn rows_that_blocked_their_event_loop_come_with_what_may_help() {
    let mut report = sample();
    report.rows.failed_by_class = ClassCounts::default();
    report.rows.failed_by_class.add_many("blocked", 4);
    let shown = shown(&report);
    let told = "
  Failed         4 rows: 4 blocked
  Blocked        allow more time with `--timeout`, or make the predictor a plain
                 `def`, which runs on threads
";
    assert!(shown.contains(told), "{shown}");
}

#[test]
fn workers_are_on_a_line_of_their_own() {
    let shown = shown(&Report { workers: workers(), ..sample() });
    let told = "
  Workers        2 with 603 to 605 calls each, 2 deaths,
                 1 m 02 s of processor time, up to 1.52 GB each
";
    assert!(shown.contains(told), "{shown}");
}

#[test]
fn a_run_without_failures_says_only_what_there_is_to_say() {
    let mut report = sample();
    report.rows = RowCounts { total: 1, ok: 1, failed: 0, unfinished: 0, resumed: 0, ..report.rows };
    report.latency_ms.failed = Stats::default().latency_failed();
    report.event_loop.blocked.clear();
    (report.tokens, report.cost_usd) = (Tokens::default(), None);
    insta::assert_snapshot!(shown(&report), @r"
    Answered 1 of 1 row in 48.0 s (24.9 rows/s)

      Latency                 p50         p90         p99         max
        answered           599 ms      1.08 s      1.19 s      1.20 s
        whole row          1.20 s      2.16 s      2.38 s      2.40 s
      Concurrency    15.0 on average, 16 at most, 16 requested
      Attempts       1,208 (8 retries, 11 timeouts, 0 abandoned)
      Answers        questions.answers.csv
      Report         questions.answers.csv.report.html
                     questions.answers.csv.report.json
    ");
}

#[test]
fn a_run_that_was_stopped_before_its_first_call_has_no_figures() {
    let mut report = sample();
    report.rows = RowCounts { ok: 0, failed: 0, unfinished: report.rows.total, resumed: 0, ..report.rows };
    report.stopped = Some("interrupted".into());
    (report.attempts.total, report.wall_s) = (0, 0.0);
    (report.tokens, report.limited_s) = Default::default();
    report.event_loop.blocked.clear();
    (report.latency_ms.ok, report.latency_ms.failed) = Default::default();
    insta::assert_snapshot!(shown(&report), @r"
    Answered 0 of 1,201 rows

      Unfinished     1,201 rows
      Stopped        interrupted
      Answers        questions.answers.csv
      Report         questions.answers.csv.report.html
                     questions.answers.csv.report.json

    To answer the 1,201 rows that are left:
      tokio-asyncio-bridge resume questions.answers.csv
    ");
}

#[test]
fn many_classes_and_hostile_names_stay_within_the_width() {
    let mut report = sample();
    let mut classes = ClassCounts::default();
    for number in 0..30 {
        classes.add(&format!("Very\u{1b}[2JLongErrorNameOfAnUnreasonablePackage{number}"));
    }
    report.rows.failed_by_class = classes;
    report.event_loop.blocked[0].place = "x".repeat(300);
    for width in [80, 60, 40, 20, 0] {
        let text = summary(
            &report,
            Files {
                answers: Path::new("a.csv"),
                report: None,
                page: None,
                resume: "tokio-asyncio-bridge resume a.csv",
            },
            Look { width, ..LOOK },
        );
        assert!(!text.contains('\u{1b}'));
        let widest = text.lines().map(console::measure_text_width).max();
        assert!(widest <= Some(width.max(80)), "{text}");
    }
}

#[test]
fn a_narrow_terminal_gets_lines_of_its_own_width() {
    let mut report = sample();
    (report.sessions, report.attempts.abandoned) = (2, 3);
    report.stopped = Some("the first 20 finished rows all failed with one class".into());
    let files = Files {
        answers: Path::new("a.csv"),
        report: None,
        page: None,
        resume: "tokio-asyncio-bridge resume a.csv",
    };
    let text = summary(&report, files, Look { width: 40, ..LOOK });
    insta::assert_snapshot!(text, @r"
    Answered 1,196 of 1,201 rows in 48.0 s
    over 2 sessions (24.9 rows/s)

      Resumed        100 rows answered
                     before
      Failed         4 rows:
                     3 timeout, 1 ValueError
      Unfinished     1 row
      Stopped        the first 20 finished
                     rows all failed with
                     one class
      Latency
        answered     p50 599 ms, p90 1.08 s,
                     p99 1.19 s, max 1.20 s
        failed       p50 600 ms, p90 1.20 s,
                     p99 1.20 s, max 1.20 s
        whole row    p50 1.20 s, p90 2.16 s,
                     p99 2.38 s, max 2.40 s
      Concurrency    15.0 on average,
                     16 at most,
                     abandoned included,
                     16 requested
      Attempts       1,208 (8 retries,
                     11 timeouts,
                     3 abandoned)
      Tokens         1,200,000 in,
                     24,000 out, $0.29
      Event loop     blocked for 25 ms by
                     predictor.py:12 in
                     answer
      Answers        a.csv

    To answer the 5 rows that are left:
      tokio-asyncio-bridge resume a.csv
    ");
    let narrow = text.lines().filter(|line| !line.contains("resume"));
    assert!(narrow.map(console::measure_text_width).max() <= Some(40), "{text}");
}

#[test]
fn a_session_that_found_nothing_left_to_do_claims_no_time_of_its_own() {
    let mut report = sample();
    report.rows = RowCounts { ok: 1_201, failed: 0, unfinished: 0, resumed: 1_201, ..report.rows };
    let first = shown(&report);
    let first = first.lines().next().unwrap();
    assert_eq!(first, "Answered 1,201 of 1,201 rows before, in 48.0 s (24.9 rows/s)");
}

#[test]
fn colour_changes_the_look_and_not_the_text() {
    let files = Files {
        answers: Path::new("a.csv"),
        report: None,
        page: None,
        resume: "tokio-asyncio-bridge resume a.csv",
    };
    let coloured = summary(&sample(), files, Look { color: true, ..LOOK });
    assert!(coloured.contains("\u{1b}[31m4 rows: 3 timeout, 1 ValueError\u{1b}[0m"));
    assert_eq!(console::strip_ansi_codes(&coloured), summary(&sample(), files, LOOK));
}
