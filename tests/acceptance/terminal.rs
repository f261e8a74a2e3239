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
        let lines = text.lines().filter(|line| !line.contains("tokio-asyncio-bridge resume"));
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
