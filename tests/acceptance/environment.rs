//! Options from the environment, which of two settings wins, and usage errors.

use super::support::job::Job;

/// A job that fails its only row once, transiently, and answers it after.
fn job() -> Job {
    Job::new().questions(10).args(["--backoff", "1ms"]).predictor(
        "async def predict(question, attempt):
             called(question)
             if attempt == 1:
                 raise ConnectionError('lost')
             return question",
    )
}

#[test]
fn an_option_can_come_from_the_environment() {
    let job = job().env("TAB_LIMIT", "2").env("TAB_RETRIES", "0");
    job.process().expect(3);
    assert_eq!(job.calls(), ["Question 0?", "Question 1?"]);
}

#[test]
fn the_predictor_can_come_from_the_environment() {
    let job = Job::new().questions(1).echo().env("TAB_PREDICTOR", "predictor.py:predict");
    job.run(&["process", "questions.csv", "-o", "answers.csv"]).expect(0);
    assert_eq!(job.calls().len(), 1);
}

#[test]
fn a_flag_beats_its_variable() {
    let job = job().env("TAB_RETRIES", "0").env("TAB_LIMIT", "1");
    job.process_with(&["--retries", "1", "-n", "2"]).expect(0);
    assert_eq!(job.column("attempts"), ["2", "2"]);
}

#[test]
fn a_flag_beats_the_variable_of_its_opposite() {
    let requested = |variable, options: &[&str]| {
        let job = Job::new().questions(2).echo().env(variable, "true");
        job.process_with(options).expect(0);
        job.report()["concurrency"]["requested"].clone()
    };
    assert_eq!(requested("TAB_SEQUENTIAL", &[]), 1);
    assert_eq!(requested("TAB_SEQUENTIAL", &["--concurrent"]), 16);
    assert_eq!(requested("TAB_CONCURRENT", &["--sequential"]), 1);
    assert_eq!(requested("TAB_SEQUENTIAL", &["--concurrent", "-c", "3"]), 3);
    let both = Job::new().questions(1).echo().env("TAB_SEQUENTIAL", "1").env("TAB_CONCURRENT", "1");
    both.process().expect(2).says("`TAB_SEQUENTIAL` and `TAB_CONCURRENT` cannot both be set");
}

#[test]
fn a_selection_by_flag_beats_the_other_kind_by_variable_also_for_resume() {
    let selected = |job: Job, options: &[&str]| {
        job.process_with(options).expect(0);
        // What was beaten is not kept for later sessions either.
        job.resume().expect(0);
        job.calls().into_iter().step_by(2).collect::<Vec<_>>()
    };
    assert_eq!(selected(job().env("TAB_LIMIT", "9"), &["--range", "3:4"]), ["Question 3?"]);
    assert_eq!(selected(job().env("TAB_RANGE", "3:9"), &["-n", "1"]), ["Question 0?"]);
    let both = job().env("TAB_LIMIT", "2").env("TAB_RANGE", "0:1");
    both.process().expect(2).says("`TAB_LIMIT` and `TAB_RANGE` cannot both be set");
}

#[test]
fn a_selection_given_to_resume_takes_the_place_of_the_other_kind() {
    let job = job();
    job.process_with(&["--range", "3:5"]).expect(0);
    job.resume_with(&["-n", "4"]).expect(0);
    assert_eq!((job.column("question").len(), job.calls().len()), (5, 2 * 5));
}

#[test]
fn what_could_destroy_or_misdirect_has_no_variable() {
    let job = Job::new().questions(1).echo().env("TAB_OUTPUT", "elsewhere.csv").env("TAB_FORCE", "true");
    let process = ["process", "questions.csv", "--predictor", "predictor.py:predict"];
    job.run(&process).expect(0);
    assert!(job.path("questions.answers.csv").exists() && !job.path("elsewhere.csv").exists());
    job.run(&process).expect(0).says("nothing to do: 1 row answered in `questions.answers.csv`");
    let bridge = Job::new().questions(1).echo().env("TAB_BRIDGE", "fake");
    bridge.process().expect(0);
    assert_eq!(bridge.calls().len(), 1);
}

#[test]
fn usage_errors_exit_with_2_and_say_what_is_expected() {
    let job = Job::new().questions(1).echo();
    let cases: [(&[&str], &str); 13] = [
        (&["--timeout", "60"], "expected a duration such as `500ms`, `30s` or `5m`"),
        (&["--timeout", "0s"], "a duration of zero"),
        (&["-c", "0"], "at least one call must be allowed"),
        (&["--range", "5:5"], "the range is empty"),
        (&["-n", "1", "--range", "0:1"], "cannot be used with"),
        (&["--map", "x"], "expected `NAME=VALUE`"),
        (&["--lm", "temperature"], "expected `NAME=VALUE`"),
        (&["--max-failures", "many"], "--max-failures"),
        (&["--delimiter", ";;"], "expected one ASCII character"),
        (&["--encoding", "utf-9"], "expected an encoding label"),
        (&["--concurrent", "8"], "unexpected argument '8'"),
        (&["--no-such-option"], "unexpected argument"),
        (&["--event-loop", "trio"], "auto, asyncio, uvloop"),
    ];
    let before = job.files();
    for (options, expected) in cases {
        job.process_with(options).expect(2).says(expected);
    }
    job.run(&["process"]).expect(2).says("<INPUT>");
    job.run(&["no-such-command"]).expect(2).says("unrecognized subcommand");
    assert_eq!(job.files(), before);
    let variable = Job::new().questions(1).echo().env("TAB_TIMEOUT", "60");
    variable.process().expect(2).says("expected a duration");
}
