//! What is said while a run goes on, and where: progress on standard error, the summary alone on standard output.

use super::support::http::{Scripted, answer};
use super::support::job::{Done, Job};
use super::support::terminal::Terminal;
use serde_json::Value;

/// 50 rows that take some 2.5 seconds.
fn slow() -> Job {
    Job::new().questions(50).args(["-c", "1"]).predictor(
        "async def predict(question):\n    called(question)\n    await asyncio.sleep(0.05)\n    return question\n",
    )
}

#[test]
fn without_a_terminal_progress_is_plain_lines() {
    let done = slow().process().expect(0);
    assert!(!done.stderr.contains(['\r', '\u{1b}']), "{:?}", done.stderr);
    let lines: Vec<_> = done.stderr.lines().filter(|line| line.contains("/50 rows, ")).collect();
    assert!(lines.len() >= 2, "{}", done.stderr);
    assert!(lines.last().unwrap().starts_with("50/50 rows, "), "{}", done.stderr);
    assert!(lines.iter().all(|line| line.contains(" rows/s")), "{}", done.stderr);
    assert!(!done.stdout.contains("/50 rows"), "{}", done.stdout);
}

/// The lines of standard error, all of which are JSON and say when they were written.
#[track_caller]
fn lines(done: &Done) -> Vec<Value> {
    let line = |line: &str| -> Value {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(humantime::parse_rfc3339(line["time"].as_str().expect("a time")).is_ok(), "{line}");
        line
    };
    done.stderr.lines().map(line).collect()
}

/// Those of a type.
fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

#[test]
fn progress_for_programs_is_one_json_object_a_line() {
    let done = slow().args(["--progress", "json"]).process().expect(0);
    let lines = lines(&done);
    assert!(of(&lines, "message").iter().any(|line| line["text"].as_str().unwrap().contains("50 rows")));
    let progress = of(&lines, "progress");
    assert!(progress.len() >= 2, "{}", done.stderr);
    for pair in progress.windows(2) {
        assert!(pair[0]["ok"].as_u64() <= pair[1]["ok"].as_u64());
    }
    assert!(progress.iter().all(|line| line["total"] == 50 && line["in_flight"].as_u64() <= Some(1)));
    let last = lines.last().unwrap();
    assert_eq!((&last["type"], &last["ok"], &last["failed"]), (&"finish".into(), &50.into(), &0.into()));
}

#[test]
fn the_last_line_for_programs_tells_the_exit_code_the_files_and_the_cost() {
    let job = Job::new().questions(3).args(["--progress", "json", "--no-html"]).predictor(
        "
async def predict(question):
    print('asked', question)
    sys.stderr.write('no line\\n')
    logging.getLogger('some.library').warning('a warning')
    if '1' in question:
        raise ValueError('no')
    return question
import logging, sys
",
    );
    let done = job.process().expect(3);
    let lines = lines(&done);
    let finish = lines.last().unwrap();
    assert_eq!((&finish["type"], &finish["exit_code"]), (&"finish".into(), &3.into()));
    for (name, path) in [
        ("answers", "answers.csv"),
        ("journal", "answers.csv.journal"),
        ("report", "answers.csv.report.json"),
    ] {
        assert!(finish[name] == path && job.path(path).exists(), "{name} in {finish}");
    }
    assert!(finish["page"].is_null() && finish["cost_usd"].is_null(), "{finish}");
    assert_eq!((&finish["ok"], &finish["failed"]), (&2.into(), &1.into()));
    let printed: Vec<_> =
        of(&lines, "output").iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect();
    assert!(
        printed.contains(&"asked Question 0?".to_owned()) && printed.contains(&"a warning".to_owned()),
        "{printed:?}"
    );
    assert_eq!(printed.iter().filter(|line| *line == "no line").count(), 3);
    let failed =
        of(&lines, "message").iter().any(|line| line["text"].as_str().unwrap().starts_with("row 1 failed"));
    assert!(failed, "{}", done.stderr);
}

#[test]
fn the_last_line_of_a_comparison_tells_what_all_its_runs_cost() {
    let server = Scripted::start(|question, _| answer(question));
    let base = server.base_url();
    let compare = ["compare", "questions.csv", "--runs", "1", "-c", "2", "--progress", "json"];
    let model = ["--model", "openai/gpt-4o-mini", "--api-base", &base];
    // Five tokens in a call, at a dollar each.
    let price = ["--price-in", "1000000", "--price-out", "0"];
    let done = Job::new().questions(4).run(&[&compare[..], &model, &price].concat()).expect(0);
    let calls = server.asked().len();
    // Two rows to warm up, and two runs.
    assert_eq!(calls, 10);
    assert_eq!(lines(&done).last().unwrap()["cost_usd"], 5.0 * calls as f64);
}

#[test]
fn whatever_ends_the_process_is_a_line_for_programs_too() {
    let job = Job::new().questions(1).echo();
    for (arguments, code, text) in [
        (&["process", "missing.csv", "--progress", "json"][..], 1, "missing.csv"),
        (&["process", "questions.csv", "--progress=json", "--no-such-option"], 2, "--no-such-option"),
        (&["process", "questions.csv", "--progress=json", "--predictor", "nofile.py:f"], 1, "nofile.py"),
    ] {
        let done = job.run(arguments).expect(code);
        let lines = lines(&done);
        let errors = lines.iter().filter(|line| line["level"] == "error").collect::<Vec<_>>();
        assert!(
            matches!(&errors[..], [one] if one["text"].as_str().unwrap().contains(text)),
            "{}",
            done.stderr
        );
        if code == 1 {
            let last = lines.last().unwrap();
            assert_eq!((&last["type"], &last["exit_code"]), (&"finish".into(), &1.into()), "{}", done.stderr);
        }
    }
    let done = job.env("TAB_PROGRESS", "json").run(&["process", "missing.csv"]).expect(1);
    assert_eq!(lines(&done).len(), 2, "{}", done.stderr);
}

#[test]
fn a_bar_is_cleared_before_anything_else_is_written() {
    let terminal = Terminal::new(80);
    let job = Job::new().questions(24).args(["-c", "2"]).stderr_to(terminal.path().to_str().unwrap());
    job.predictor(
        "
import logging, sys
async def predict(question, row_id):
    await asyncio.sleep(0.1)
    print('printed', row_id)
    print('in parts', end=' ', flush=True)
    await asyncio.sleep(0.12)
    print('and', 'whole', file=sys.stderr)
    logging.getLogger('some.library').warning('a warning')
    assert sys.stdout.isatty()
    return question
",
    )
    .process()
    .expect(0);
    let text = terminal.text();
    assert!(text.contains("/24 rows") && text.contains('█'), "a bar was drawn: {text:?}");
    for printed in ["printed 7\n", "a warning\n", "in parts", "24 rows; "] {
        assert!(text.contains(printed), "{printed}: {text:?}");
    }
    for line in text.split('\n') {
        // What is left of a line on the terminal: what comes after it was last cleared.
        let left = line.rsplit("\u{1b}[2K").next().unwrap().trim_start_matches('\r');
        let printed = ["printed", "in parts", "whole", "a warning"].iter().any(|it| left.contains(it));
        assert!(!(printed && left.contains(" rows")), "a bar and something else on one line: {left:?}");
    }
}

#[test]
fn at_eighty_columns_failures_and_cost_are_seen_and_percent_and_time() {
    let shown = |columns| {
        let terminal = Terminal::new(columns);
        let job = Job::new().questions(60).args(["-c", "4", "--max-failures", "100%"]);
        let job = job.args(["--price-in", "1", "--price-out", "1"]);
        job.stderr_to(terminal.path().to_str().unwrap())
            .predictor(
                "
async def predict(question, row_id):
    await asyncio.sleep(0.05)
    if row_id < 10:
        raise ValueError
    return question
",
            )
            .process()
            .expect(3);
        terminal.text()
    };
    for columns in [40, 80, 120] {
        let text = shown(columns);
        let last = text.rsplit("\u{1b}[2K").find(|part| part.contains("60 rows")).unwrap().to_owned();
        let last = last.split(['\r', '\n']).find(|part| part.contains("60 rows")).unwrap();
        let last = console::strip_ansi_codes(last).trim_end().to_owned();
        assert!(last.contains("10 failed"), "{columns}: {last}");
        if columns >= 80 {
            assert!(last.contains(" %  0:0"), "{columns}: {last}");
        }
        assert!(console::measure_text_width(&last) < columns.into(), "{columns}: {last}");
        let failed = last.find("failed").unwrap();
        assert!(last.find('%').is_none_or(|percent| failed < percent), "{last}");
    }
}

#[test]
fn quiet_says_nothing_at_all_of_a_run_that_went_well() {
    let job = Job::new().questions(20).echo().args(["-q"]);
    let done = job.process().expect(0);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    assert_eq!(job.column("answer"), job.column("question"));
    let done = job.run(&["process", "missing.csv"]).expect(1).says("missing.csv");
    assert_eq!(done.stdout, "");
}

#[test]
fn the_summary_alone_goes_to_standard_output() {
    let job = Job::new().questions(3).predictor(
        "
import ctypes, subprocess, sys
print('from the import')
async def predict(question):
    print('from print')
    sys.stdout.write('from sys.stdout\\n')
    sys.__stdout__.write('from sys.__stdout__\\n')
    os.write(1, b'from os.write\\n')
    subprocess.run(['echo', 'from a child'])
    ctypes.CDLL(None).puts(b'from the C library')
    return question
",
    );
    let done = job.process().expect(0);
    for printed in
        ["the import", "print", "sys.stdout", "sys.__stdout__", "os.write", "a child", "the C library"]
    {
        assert!(done.stderr.contains(&format!("from {printed}\n")), "no {printed} in {}", done.stderr);
    }
    assert!(!done.stdout.contains("from "), "{}", done.stdout);
    assert!(done.stdout.contains("Attempts"), "{}", done.stdout);
    assert!(job.column("answer") == job.column("question"));
}

#[test]
fn a_closed_standard_output_never_stops_a_run() {
    let job = Job::new().questions(20).stdout_closed().predictor(
        "async def predict(question):\n    called(question)\n    print(question)\n    os.write(1, b'x')\n    return question\n",
    );
    job.process().expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
    assert!(job.path("answers.csv.report.json").exists());
    job.run(&["export", "answers.csv"]).expect(0);
    job.run(&["report", "answers.csv"]).expect(0);
}
