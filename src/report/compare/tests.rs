use super::warning::Doubt;
use super::*;
use crate::report::text::Look;

fn runs(name: &str, concurrency: u64, walls: &[u64]) -> ModeRuns {
    let run = |wall: &u64| RunFigures {
        wall_s: *wall as f64 / 1e3,
        attempts: 100,
        call_ms: Some(120.0),
        in_flight_mean: concurrency as f64 * 0.9,
        in_flight_max: concurrency,
        ..RunFigures::default()
    };
    ModeRuns { name: name.into(), concurrency, runs: walls.iter().map(run).collect() }
}

fn sequential() -> ModeRuns {
    runs("sequential", 1, &[12_300, 12_400, 12_200])
}

fn compared(rows: u64, modes: Vec<ModeRuns>) -> Comparison {
    Comparison::new(rows, 3, Some(WarmUp { rows: 16, attempts: 17 }), modes, None)
}

/// Two modes of three runs, the second as `change` makes it.
fn changed(change: impl FnMut(&mut RunFigures)) -> Comparison {
    let mut concurrent = runs("concurrent -c 16", 16, &[850, 870, 840]);
    concurrent.runs.iter_mut().for_each(change);
    compared(100, vec![sequential(), concurrent])
}

fn warnings(comparison: &Comparison) -> Vec<String> {
    comparison.warnings.iter().map(ToString::to_string).collect()
}

const LOOK: Look = Look { color: false, width: 80 };

#[test]
fn two_steady_modes_give_a_table_and_a_speedup_without_warnings() {
    insta::assert_snapshot!(changed(|_| ()).table(LOOK), @r"
                      Wall (mean ± σ)  Rows/s  In flight  Calls  Failed
    sequential        12.3 s ± 100 ms    8.13       0.90    100       0
    concurrent -c 16   853 ms ± 15 ms     117       14.4    100       0

    3 runs of 100 rows in each mode, after 17 calls to warm up (untimed)
    the answers were the same in every run

    concurrent -c 16 was
      14.4 times as fast as sequential
      (95 % confidence: 13.9 to 15.0; ideal: 14.3)
    ");
}

#[test]
fn the_same_in_markdown() {
    insta::assert_snapshot!(changed(|run| run.different = Some(2)).markdown(), @r"
    | Mode | Wall (mean ± σ) | Rows/s | In flight | Calls | Failed | Speedup (95 % confidence) | Ideal |
    |:---|---:|---:|---:|---:|---:|---:|---:|
    | `sequential` | 12.3 s ± 100 ms | 8.13 | 0.90 | 100 | 0 | 1 | 1 |
    | `concurrent -c 16` | 853 ms ± 15 ms | 117 | 14.4 | 100 | 0 | 14.4 (13.9 to 15.0) | 14.3 |

    3 runs of 100 rows in each mode, after 17 calls to warm up (untimed); answers other than in the first run of sequential: 2 in concurrent -c 16.
    ");
}

#[test]
fn what_would_mislead_is_said_with_the_flag_that_mends_it() {
    let mut troubled = runs("concurrent -c 128", 128, &[100, 14_000]);
    for (run, attempts) in troubled.runs.iter_mut().zip([112, 107]) {
        (run.failed, run.attempts, run.different) = (3, attempts, Some(attempts - 100));
    }
    let comparison =
        compared(100, vec![sequential(), runs("concurrent -c 16", 16, &[300, 310, 300]), troubled]);
    insta::assert_snapshot!(comparison.table(LOOK), @r"
                         Wall (mean ± σ)  Rows/s  In flight  Calls  Failed
      sequential         12.3 s ± 100 ms    8.13       0.90    100       0
      concurrent -c 16   303 ms ± 5.8 ms     330       14.4    100       0
      concurrent -c 128  7.05 s ± 9.83 s    14.2        115  109.5       3

      3 runs of 100 rows in each mode, after 17 calls to warm up (untimed)
      answers other than in the first run of sequential:
        12 in concurrent -c 128

      concurrent -c 16 was
        40.6 times as fast as sequential
        (95 % confidence: 39.0 to 42.2; ideal: 14.3)

      concurrent -c 128 was
        10.4 times as fast as sequential
        (no useful interval; ideal: 100)

    warning: `concurrent -c 16` took only 303 ms: give it more rows
    warning: the speedup of `concurrent -c 128` may be none: raise `--runs`
    warning: `concurrent -c 128` had only 100 rows: give it more rows, or lower `-c`
    warning: `concurrent -c 128` had 3 failed rows and 9.5 retries a run: lower `-c`
    or set `--rpm`
    ");
}

#[test]
fn what_limited_a_mode_is_named_with_its_remedy() {
    let limited = [
        warnings(&changed(|run| run.limited_s.rpm = run.wall_s * 0.8)),
        warnings(&changed(|run| run.limited_s.tpm = run.wall_s * 0.8)),
        warnings(&changed(|run| run.limited_s.server = run.wall_s * 0.4)),
        warnings(&changed(|run| run.limited_s.outage = run.wall_s * 0.4)),
        warnings(&changed(|run| run.cpu_s = run.wall_s * 0.97)),
        warnings(&changed(|run| (run.cpu_s, run.workers) = (run.wall_s * 1.9, 2))),
        warnings(&changed(|run| (run.cpu_s, run.workers) = (run.wall_s * 1.7, 2))),
        warnings(&changed(|run| run.stalled_s = run.wall_s * 0.5)),
        warnings(&changed(|run| run.call_ms = Some(500.0))),
        warnings(&changed(|run| run.in_flight_mean = 2.5)),
        warnings(&changed(|run| (run.cpu_s, run.limited_s.rpm) = (run.wall_s * 0.2, run.wall_s * 0.04))),
    ];
    insta::assert_snapshot!(limited.map(|all| all.join("\n")).join("\n"), @r"
    `concurrent -c 16` was held back 80 % of its time by `--rpm`: raise it
    `concurrent -c 16` was held back 80 % of its time by `--tpm`: raise it
    `concurrent -c 16` was held back 40 % of its time by the server's refusals: lower `-c` or set `--rpm`
    `concurrent -c 16` was held back 40 % of its time by an outage of the server: compare again
    `concurrent -c 16` used 97 % of a core, and Python runs on one: a greater `-c` gives nothing
    `concurrent -c 16` used 95 % of a core for each of 2 workers: a greater `-c` gives nothing

    in `concurrent -c 16` the predictor blocked the event loop 50 % of the time: await what it waits for
    calls of `concurrent -c 16` took 4.17 times as long: the server, a pool of threads or of connections takes fewer at once: lower `-c`
    `concurrent -c 16` had only 2.50 calls in flight: they are too short for more: lower `-c`
    ");
}

#[test]
fn answers_that_come_sooner_the_second_time_are_taken_for_cached() {
    let mut first = sequential();
    first.runs[0].call_ms = Some(120.0);
    first.runs[1].call_ms = Some(3.0);
    let again = runs("concurrent -c 16", 16, &[850, 870, 840]);
    let cached = |times| Warning { mode: "sequential".to_owned(), doubt: Doubt::Cached { times } };
    assert_eq!(compared(100, vec![first.clone(), again.clone()]).warnings[..1], [cached(40.0)]);
    // With one run a mode, the second mode's is the second.
    first.runs.truncate(1);
    let mut once = runs("concurrent -c 16", 16, &[850]);
    once.runs[0].call_ms = Some(30.0);
    assert_eq!(compared(100, vec![first.clone(), once]).warnings[0], cached(4.0));
    // Too short to tell.
    first.runs[0].call_ms = Some(1.0);
    assert!(!warnings(&compared(100, vec![first, again])).iter().any(|text| text.contains("cache")));
}

#[test]
fn a_comparison_is_exported_with_the_names_scripts_rely_on() {
    let modes = vec![runs("sequential", 1, &[2_000]), runs("concurrent", 10, &[1_000])];
    let comparison = compared(100, modes);
    let text = serde_json::to_string(&comparison).unwrap();
    assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), comparison);
    insta::assert_snapshot!(text, @r#"
    {"schema_version":1,"rows":100,"runs_requested":3,"stopped":null,"warm_up":{"rows":16,"attempts":17},"modes":[{"name":"sequential","concurrency":1,"wall_s":[2.0],"mean_s":2.0,"stddev_s":null,"rows_per_s":50.0,"failed":0.0,"attempts":100.0,"in_flight_mean":0.9,"different":0,"speedup":null,"ideal_speedup":null,"runs":[{"wall_s":2.0,"failed":0,"attempts":100,"different":null,"call_ms":120.0,"in_flight_mean":0.9,"in_flight_max":1,"limited_s":{"server":0.0,"outage":0.0,"rpm":0.0,"tpm":0.0},"cpu_s":0.0,"stalled_s":0.0}]},{"name":"concurrent","concurrency":10,"wall_s":[1.0],"mean_s":1.0,"stddev_s":null,"rows_per_s":100.0,"failed":0.0,"attempts":100.0,"in_flight_mean":9.0,"different":0,"speedup":{"mean":2.0,"ci95":null},"ideal_speedup":10.0,"runs":[{"wall_s":1.0,"failed":0,"attempts":100,"different":null,"call_ms":120.0,"in_flight_mean":9.0,"in_flight_max":10,"limited_s":{"server":0.0,"outage":0.0,"rpm":0.0,"tpm":0.0},"cpu_s":0.0,"stalled_s":0.0}]}],"modes_without_runs":[],"speedup":{"mean":2.0,"ci95":null},"ideal_speedup":10.0,"warnings":[{"mode":"concurrent","kind":"uncertain","ci95":null}]}
    "#);
}

#[test]
fn the_ideal_counts_whole_rounds_of_calls() {
    let ideal = |rows, c| compared(rows, vec![sequential(), runs("concurrent", c, &[1_000])]).ideal_speedup;
    assert_eq!([ideal(100, 16), ideal(10, 16), ideal(96, 16)], [Some(100.0 / 7.0), Some(10.0), Some(16.0)]);
}

#[test]
fn one_mode_or_none_has_no_speedup() {
    let comparison = compared(100, vec![sequential(), runs("concurrent", 16, &[])]);
    assert_eq!((comparison.modes.len(), comparison.speedup, comparison.ideal_speedup), (1, None, None));
    assert_eq!(compared(100, Vec::new()).modes, []);
}

#[test]
fn a_terminal_too_narrow_for_the_table_gets_a_block_a_mode() {
    let comparison = changed(|run| (run.wall_s, run.different) = (0.3, Some(2)));
    insta::assert_snapshot!(comparison.table(Look { width: 40, ..LOOK }), @r"
      sequential
        Wall (± σ)  12.3 s ± 100 ms
        Rows/s      8.13
        In flight   0.90
        Calls       100
        Failed      0

      concurrent -c 16
        Wall (± σ)  300 ms ± 0 s
        Rows/s      333
        In flight   14.4
        Calls       100
        Failed      0

      3 runs of 100 rows in each mode, after
      17 calls to warm up (untimed)
      answers other than in the first run of
      sequential:
        2 in concurrent -c 16

      concurrent -c 16 was
        41.0 times as fast as sequential
        (95 % confidence: 40.2 to 41.8;
        ideal: 14.3)

    warning: `concurrent -c 16` took only
    300 ms: give it more rows
    ");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let long = "n".repeat(99);
    let mut modes =
        vec![runs(&long, 1, &[7_100_000, 7_300_000]), runs(&long, 100_000, &[3_700_000, 9_800_000])];
    for run in &mut modes[1].runs {
        (run.failed, run.attempts, run.different) = (999_999, 3_000_000, Some(999_999));
    }
    let mut comparison = compared(1_000_000, modes);
    let reason = "the first 20 finished rows all failed with `ValueError`; the last: no such thing".into();
    comparison.stopped = Some(Stopped { at: "in run 2 of 3: sequential".into(), reason, rows: Some(3) });
    for width in [40, 60, 80, 120] {
        let table = comparison.table(Look { width, ..LOOK });
        let widest = table.lines().map(console::measure_text_width).max();
        assert!(widest <= Some(width), "{width}: {table}");
        assert_eq!(table.contains("Wall (mean ± σ)"), width > 80, "{table}");
    }
}

#[test]
fn a_stopped_comparison_counts_the_runs_it_has() {
    let stopped = |reason: &str| {
        let at = "in run 2 of 3: sequential".to_owned();
        Some(Stopped { at, reason: reason.to_owned(), rows: Some(7) })
    };
    let warm_up = Some(WarmUp { rows: 16, attempts: 17 });
    let modes = || vec![runs("sequential", 1, &[12_300]), runs("concurrent -c 16", 16, &[850, 870])];
    let third = runs("concurrent -c 64", 64, &[]);
    let comparison =
        Comparison::new(100, 3, warm_up, [modes(), vec![third]].concat(), stopped("odd\u{1b}[2J\nanswer"));
    insta::assert_snapshot!(comparison.table(LOOK), @r"
                        Wall (mean ± σ)  Rows/s  In flight  Calls  Failed
      sequential                 12.3 s    8.13       0.90    100       0
      concurrent -c 16   860 ms ± 14 ms     116       14.4    100       0

      finished, of 3 runs of 100 rows each: 1 of sequential, 2 of concurrent -c 16,
      0 of concurrent -c 64, after 17 calls to warm up (untimed)
      the answers were the same in every run

      stopped in run 2 of 3: sequential: odd\u{1b}[2J answer; left out: its 7
      finished rows

      concurrent -c 16 was
        14.3 times as fast as sequential
        (no interval without 2 runs of each; ideal: 14.3)

    warning: the speedup of `concurrent -c 16` is uncertain: raise `--runs`
    ");
    insta::assert_snapshot!(comparison.markdown(), @r"
    | Mode | Wall (mean ± σ) | Rows/s | In flight | Calls | Failed | Speedup (95 % confidence) | Ideal |
    |:---|---:|---:|---:|---:|---:|---:|---:|
    | `sequential` | 12.3 s | 8.13 | 0.90 | 100 | 0 | 1 | 1 |
    | `concurrent -c 16` | 860 ms ± 14 ms | 116 | 14.4 | 100 | 0 | 14.3 | 14.3 |

    finished, of 3 runs of 100 rows each: 1 of sequential, 2 of concurrent -c 16, 0 of concurrent -c 64, after 17 calls to warm up (untimed); the answers were the same in every run; stopped in run 2 of 3: sequential: odd\u{1b}[2J answer; left out: its 7 finished rows.

    - the speedup of `concurrent -c 16` is uncertain: raise `--runs`
    ");
    let none =
        Comparison::new(100, 3, None, vec![runs("sequential", 1, &[])], stopped("terminated (SIGTERM)"));
    insta::assert_snapshot!(none.table(LOOK), @r"
      no run was finished

      stopped in run 2 of 3: sequential: terminated (SIGTERM); left out: its 7
      finished rows
    ");
}
