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

#[test]
fn a_key_that_the_predictors_file_reads_itself_is_masked_also_in_what_python_logs() {
    let job = Job::new().questions(8).args(["--retries", "0"]).predictor(
        "import logging
os.environ['DOTENV_API_KEY'] = 'sk-planted-0099'
async def leak():
    raise RuntimeError('background ' + os.environ['DOTENV_API_KEY'])
async def predict(question, row_id):
    print('printed', os.environ['DOTENV_API_KEY'], flush=True)
    logging.warning('logged %s', os.environ['DOTENV_API_KEY'])
    if row_id == 1:
        asyncio.ensure_future(leak())
        await asyncio.sleep(0.01)
    if row_id == 2:
        raise RuntimeError('at postgres://bob:hunter2@db/x with ' + os.environ['DOTENV_API_KEY'])
    return question",
    );
    let done = job.process().expect(3);
    hidden(&job, &done, &["sk-planted-0099", "hunter2"]);
    assert!(done.stderr.contains("printed ***") && done.stderr.contains("logged ***"), "{}", done.stderr);
    assert_eq!(job.column("error")[2], "RuntimeError: at postgres://bob:***@db/x with ***");
}

#[test]
fn a_key_given_by_lm_is_asked_for_again_and_never_done_without() {
    let job = Job::new().questions(3).predictor("async def predict(question):\n    raise ValueError\n");
    job.process_with(&["--lm", "api_key=sk-planted-0100"]).expect(3);
    let done = job.resume().expect(2).says("`--lm api_key=…`");
    hidden(&job, &done, &["sk-planted-0100"]);
    job.run(&["resume", "answers.csv", "--lm", "api_key=sk-planted-0100"]).expect(3);
}
