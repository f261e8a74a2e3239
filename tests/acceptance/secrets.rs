//! Keys planted where keys are found are in no file, message or log. Answers and inputs are data and stay.

use std::fs;

use super::support::job::{Done, Job};

/// Fails where any of the secrets stands in what the program wrote or said.
#[track_caller]
fn hidden(job: &Job, done: &Done, secrets: &[&str]) {
    let written = job.files().into_iter().filter(|name| name.starts_with("answers"));
    let mut texts: Vec<_> = written
        .map(|name| (name.clone(), String::from_utf8(fs::read(job.path(&name)).unwrap()).unwrap()))
        .collect();
    texts.push(("standard output".to_owned(), done.stdout.clone()));
    texts.push(("standard error".to_owned(), done.stderr.clone()));
    for (name, text) in texts {
        for secret in secrets {
            assert!(!text.contains(secret), "`{secret}` is in {name}:\n{text}");
        }
    }
}

#[test]
fn keys_of_the_environment_are_masked_in_errors_reprs_tracebacks_and_logs() {
    let keys = [
        ("OPENAI_API_KEY", "sk-planted-0001"),
        ("GITHUB_TOKEN", "ghp-planted-0002"),
        ("AWS_SECRET", "aws-planted-0003"),
        ("DB_PASSWORD", "pw-planted-0004"),
    ];
    let mut job = Job::new().questions(12).args(["-vv", "--backoff", "1ms", "--retries", "1"]).predictor(
        "import logging
async def predict(question, row_id):
    key = os.environ[['OPENAI_API_KEY', 'GITHUB_TOKEN', 'AWS_SECRET', 'DB_PASSWORD'][row_id % 4]]
    if row_id < 4:
        raise ValueError(f'incorrect API key provided: {key}')
    if row_id < 8:
        raise type(f'Error{row_id}', (Exception,), {})(f'https://host/?key={key}')
    return [key]",
    );
    for (name, value) in keys {
        job = job.env(name, value);
    }
    let done = job.process().expect(3);
    hidden(&job, &done, &keys.map(|(_, value)| value));
    assert_eq!(job.column("error")[0], "ValueError: incorrect API key provided: ***");
    assert!(job.column("error")[8].ends_with("which is no answer: ['***']"), "{}", job.column("error")[8]);
}

#[test]
fn a_key_in_the_line_that_raised_is_masked_where_the_run_stops() {
    let job = Job::new().questions(30).env("MY_TOKEN", "tok-planted-0005").predictor(
        "async def predict(question):
             raise KeyError('tok-planted-0005')",
    );
    let done = job.process().expect(4);
    hidden(&job, &done, &["tok-planted-0005"]);
    assert!(done.stderr.contains("KeyError: '***'"), "{}", done.stderr);
}

#[test]
fn a_key_in_a_refused_predictors_traceback_is_masked() {
    let job = Job::new()
        .questions(3)
        .env("MY_TOKEN", "tok-planted-0006")
        .predictor("raise RuntimeError('cannot log in with ' + os.environ['MY_TOKEN'])");
    let done = job.process().expect(1).says("cannot log in with ***");
    hidden(&job, &done, &["tok-planted-0006"]);
}

#[test]
fn a_key_given_as_an_option_is_masked_and_not_kept_for_resume() {
    let job = Job::new().questions(2).predictor(
        "async def predict(question):
             raise ValueError('refused: sk-planted-0007, planted-0008, planted-0010')",
    );
    let done = job
        .process_with(&[
            "-vv",
            "--model=openai/gpt-4o-mini",
            "--lm=api_key=sk-planted-0007",
            "--lm=azure_ad_token=planted-0010",
            "--lm=temperature=0.5",
            "--api-base=http://user:planted-0008@127.0.0.1:9/v1",
        ])
        .expect(3);
    hidden(&job, &done, &["sk-planted-0007", "planted-0008", "planted-0010"]);
    assert_eq!(job.column("error")[0], "ValueError: refused: ***, ***, ***");
    let journal = job.read("answers.csv.journal");
    assert!(journal.contains("--lm=temperature=0.5") && journal.contains("--api-base=http://127.0.0.1:9/v1"));
}

#[test]
fn answers_and_inputs_are_data_and_stay_as_they_are() {
    let job = Job::new()
        .env("MY_TOKEN", "tok-planted-0009")
        .file("questions.csv", "question\nwhat is tok-planted-0009?\n")
        .echo();
    job.process().expect(0);
    assert_eq!(job.column("answer"), ["what is tok-planted-0009?"]);
}
