//! The summary on terminals: coloured there alone, as wide as they are.

use super::support::job::Job;
use super::support::terminal::Terminal;

/// What a run with failures and retries shows on a terminal of so many columns.
fn shown(columns: u16, environment: &[(&str, &str)], options: &[&str]) -> String {
    let terminal = Terminal::new(columns);
    let job = Job::new().questions(40).stdout_to(terminal.path().to_str().unwrap());
    let job = environment.iter().fold(job, |job, (name, value)| job.env(name, value));
    let process = ["process", "questions.csv", "-o", "a.csv", "--backoff", "10ms", "--max-failures", "100%"];
    let bridge = ["--bridge", "fake:seed=4,min=5ms,max=20ms,transient=0.1,permanent=0.1"];
    job.run(&[&process[..], &bridge, options].concat()).expect(3);
    terminal.text()
}

#[test]
fn a_summary_keeps_to_the_width_of_its_terminal() {
    for columns in [40, 50, 60, 100] {
        let text = shown(columns, &[("NO_COLOR", "1")], &[]);
        assert!(text.contains("p50") && text.contains("Failed") && text.contains("Attempts"), "{text}");
        // The command that resumes has the path of the program.
        let lines = text.lines().filter(|line| !line.contains(" resume a.csv"));
        for line in lines {
            assert!(line.chars().count() <= columns.into(), "{columns} columns: {line}\n{text}");
        }
    }
}

#[test]
fn colours_go_to_terminals_alone_unless_asked_for() {
    let coloured = |text: &str| text.contains("\u{1b}[31m");
    assert!(coloured(&shown(80, &[], &[])));
    assert!(!shown(80, &[("NO_COLOR", "1")], &[]).contains('\u{1b}'));
    assert!(!shown(80, &[], &["--color", "never"]).contains('\u{1b}'));
    assert!(coloured(&shown(80, &[("NO_COLOR", "1")], &["--color", "always"])));
    let job = Job::new().questions(3).predictor("async def predict(question):\n    raise ValueError\n");
    assert!(!job.process().expect(3).stdout.contains('\u{1b}'));
    assert!(coloured(&job.run(&["report", "answers.csv", "--color", "always"]).expect(0).stdout));
}

#[test]
fn an_exception_without_a_message_is_its_class_alone() {
    let job = Job::new().questions(1).predictor("async def predict(question):\n    raise ValueError\n");
    job.process().expect(3).says("row 0 failed: ValueError (further");
}

#[test]
fn a_report_without_a_run_names_the_remedy() {
    let done = Job::new().run(&["report", "answers.csv"]).expect(1);
    done.says(
        "`answers.csv` has no journal `answers.csv.journal`\nhint: name the answers file of an earlier",
    );
}

#[test]
fn a_resume_with_nothing_left_to_do_claims_no_time_of_its_own() {
    let job = Job::new().questions(3).echo();
    job.process().expect(0).prints("Answered 3 of 3 rows in ");
    job.resume().expect(0).prints("Answered 3 of 3 rows before, in ");
    assert_eq!(job.calls().len(), 3);
}

#[test]
fn sequential_beside_a_concurrency_says_which_of_them_holds() {
    let job = Job::new().questions(1).echo();
    let done = job.process_with(&["--sequential", "-c", "8"]).expect(0);
    let done = done.says("warning: `--sequential` makes one call at a time: `-c 8` has no effect\n");
    assert!(done.stdout.contains("1 requested"), "{}", done.stdout);
    let done = job.process_with(&["--sequential", "--force"]).expect(0);
    assert!(!done.stderr.contains("no effect"), "{}", done.stderr);
}

/// The command between the backticks, or on the line, after the text; run by a shell as it stands.
#[track_caller]
fn pasted(job: &Job, text: &str, after: &str) -> std::process::Output {
    let rest = text.split_once(after).unwrap_or_else(|| panic!("no `{after}` in {text}")).1;
    let end = if after.ends_with('`') { '`' } else { '\n' };
    let command = rest.split(end).next().unwrap();
    let environment = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv");
    let shell = std::process::Command::new("bash")
        .args(["-c", command])
        .env("VIRTUAL_ENV", environment)
        .current_dir(job.path("."))
        .output();
    shell.unwrap()
}

#[test]
fn every_command_that_is_hinted_can_be_pasted_as_it_stands() {
    let failing = "async def predict(question):\n    called(question)\n    if not os.path.exists('go'): raise ValueError\n    return question\n";
    for answers in ["my answers.csv", "it's $HOME `ls`.csv", "-x.csv", "a\u{1b}b.csv"] {
        let job = Job::new().questions(2).predictor(failing);
        let option = format!("--output={answers}");
        let done =
            job.run(&["process", "questions.csv", &option, "--predictor", "predictor.py:predict"]).expect(3);
        std::fs::write(job.path("go"), "").unwrap();
        let output = pasted(&job, &done.stdout, "rows that are left:\n  ");
        assert_eq!(output.status.code(), Some(0), "{}\n{output:?}", done.stdout);
        assert_eq!(job.calls().len(), 4, "{answers:?}");
    }
    // A guard's hint, from far below the command line.
    let job = Job::new().questions(40).predictor(
        "async def predict(question):\n    called(question)\n    if not os.path.exists('go'): raise ConnectionRefusedError\n    return question\n",
    );
    let options = ["--backoff", "1ms", "--backoff-max", "10ms", "-c", "4"];
    let done = job.process_with(&options);
    assert_eq!(done.code, 5, "{}", done.stderr);
    std::fs::write(job.path("go"), "").unwrap();
    let output = pasted(&job, &done.stderr, "is `--api-base` right? `");
    assert_eq!(output.status.code(), Some(0), "{}\n{output:?}", done.stderr);
}

#[test]
fn quiet_says_what_failed_and_nothing_else() {
    let job = Job::new().questions(2).args(["-q"]);
    let job = job.predictor("async def predict(question):\n    raise ValueError('no')\n");
    let done = job.process().expect(3);
    assert!(
        done.stderr.starts_with("warning: row ") && done.stderr.contains("ValueError: no"),
        "{}",
        done.stderr
    );
    assert_eq!((done.stderr.lines().count(), done.stdout.as_str()), (1, ""), "{}", done.stderr);
}

#[test]
fn with_v_each_failed_attempt_is_shown_once_with_its_traceback() {
    let job = Job::new().questions(3).args(["--backoff", "1ms", "--retries", "1", "-v"]).predictor(
        "
def helper(row_id, attempt):
    raise ConnectionError(f'row {row_id} attempt {attempt}')
async def predict(question, row_id, attempt):
    if row_id == 0 and attempt == 1 or row_id == 1:
        helper(row_id, attempt)
    return question
",
    );
    let done = job.process().expect(3);
    let stderr = &done.stderr;
    for (row, attempt) in [(0, 1), (1, 1), (1, 2)] {
        let raised = format!("\n  ConnectionError: row {row} attempt {attempt}\n");
        assert_eq!(stderr.matches(&raised).count(), 1, "{stderr}");
    }
    assert!(
        stderr.contains("warning: row 0, attempt 1: ConnectionError: row 0 attempt 1 (again in "),
        "{stderr}"
    );
    assert!(
        stderr.contains("warning: row 1 failed after 2 attempts: ConnectionError: row 1 attempt 2\n"),
        "{stderr}"
    );
    assert_eq!(stderr.matches("Traceback (most recent call last)").count(), 3, "{stderr}");
    assert_eq!(stderr.matches(", in helper\n").count(), 3, "{stderr}");
    assert!(!stderr.contains("_tokio_asyncio_bridge"), "frames of ours: {stderr}");
}

#[test]
fn switches_of_the_environment_are_written_as_people_write_them() {
    let job = |name: &str, value: &str| Job::new().questions(1).echo().env(name, value);
    for value in ["1", "true", "yes", "on"] {
        let done = job("TAB_QUIET", value).process().expect(0);
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""), "{value}");
    }
    for value in ["0", "false", "no", "off", ""] {
        job("TAB_QUIET", value).process().expect(0).prints("Answered 1 of 1 row");
    }
    let dry = job("TAB_DRY_RUN", "1");
    dry.process().expect(0).says("dry run");
    assert!(dry.calls().is_empty());
    job("TAB_VERBOSE", "yes").process().expect(0);
    job("TAB_QUIET", "maybe").process().expect(2).says("'maybe'").says("expected `true` or `false`");
}

#[test]
fn what_has_no_effect_is_said_with_what_was_probably_meant() {
    let job = Job::new().questions(1).echo();
    let job = job.env("TAB_CONCURENCY", "4").env("TAB_NOTHING_LIKE_IT", "1").env("TAB_FORCE", "1");
    let done = job.process_with(&["--lm", "temprature=0", "--lm", "my_own=1"]).expect(0);
    for text in [
        "warning: `TAB_CONCURENCY` belongs to no option\nhint: did you mean `TAB_CONCURRENCY`?\n",
        "warning: `TAB_NOTHING_LIKE_IT` belongs to no option\nwarning: ",
        "warning: `TAB_FORCE` has no effect\nhint: ",
        "warning: `--lm temprature=…` is not a known argument\nhint: did you mean `temperature`?\n",
    ] {
        assert!(done.stderr.contains(text), "no {text} in {}", done.stderr);
    }
    assert!(!done.stderr.contains("my_own"), "{}", done.stderr);
    // Whatever command takes it.
    for command in ["compare", "doctor"] {
        let lm = ["--lm", "temprature=0", "--predictor", "predictor.py:predict", "--dry-run"];
        let done = job.run(&[&[command, "questions.csv"][..], &lm].concat());
        let done = done.says("`--lm temprature=…` is not a known argument");
        assert_eq!(done.stderr.matches("temprature").count(), 1, "{command}: {}", done.stderr);
    }
}

#[test]
fn a_guess_never_names_an_option_that_the_help_does_not() {
    for guessed in ["--brigde", "--stuck-aftr"] {
        for arguments in [["process", "x.csv", guessed, "y"], [guessed, "y", "process", "x.csv"]] {
            let done = Job::new().run(&arguments).expect(2);
            assert!(
                !done.stderr.contains("--bridge'") && !done.stderr.contains("--stuck-after'"),
                "{}",
                done.stderr
            );
        }
    }
    Job::new().run(&["process", "x.csv", "--concurency", "4"]).expect(2).says("'--concurrency'");
}
