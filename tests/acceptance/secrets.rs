//! Keys planted where keys are found are in no file, message or log. Answers and inputs are data and stay.

use std::fs;

use super::support::aimock::{Aimock, Fixtures};
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
    return type('Odd', (), {'__repr__': lambda self: f'<{key}>'})()",
    );
    for (name, value) in keys {
        job = job.env(name, value);
    }
    let done = job.process().expect(3);
    hidden(&job, &done, &keys.map(|(_, value)| value));
    assert_eq!(job.column("error")[0], "ValueError: incorrect API key provided: ***");
    assert!(job.column("error")[8].contains("<***>"), "{}", job.column("error")[8]);
}

#[test]
fn a_short_key_is_masked_by_its_name_in_all_that_is_recorded() {
    let server = Aimock::start(&Fixtures::numbered(2));
    let job = Job::new().questions(2);
    let base = server.base_url();
    let process = ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/gpt-4o-mini"];
    let done =
        job.run(&[&process[..], &["--api-base", &base, "--lm", "api_key=q7x", "-v"]].concat()).expect(0);
    hidden(&job, &done, &["q7x"]);
    assert_eq!(server.journal().len(), 2);
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
    assert!(journal.contains(r#"{"name":"temperature","value":"0.5"}"#));
    assert!(journal.contains(r#"{"name":"api_key","value":null}"#));
    assert!(journal.contains(r#""api_base":"http://***@127.0.0.1:9/v1""#));
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
    job.resume_with(&["--lm", "api_key=sk-planted-0100"]).expect(3);
}

#[test]
fn headers_and_credentials_given_by_lm_are_secrets_also_within_json() {
    let arguments = [
        r#"extra_headers={"Authorization": "Bearer sk-planted-0110", "X-Tenant": "planted-0111"}"#,
        r#"extra_body={"user": "ann", "auth": {"api_key": "sk-planted-0112"}}"#,
        "vertex_credentials=/planted-0113.json",
    ];
    let secrets = ["sk-planted-0110", "planted-0111", "sk-planted-0112", "planted-0113"];
    let job = Job::new().questions(3).args(["-vv"]).predictor(
        "async def predict(question):
    raise ValueError('Authorization: Bearer sk-planted-0110, or sk-planted-0112 of /planted-0113.json')",
    );
    let given: Vec<_> = arguments.iter().flat_map(|argument| ["--lm", argument]).collect();
    let done = job.process_with(&given).expect(3);
    hidden(&job, &done, &secrets);
    assert_eq!(job.column("error")[0], "ValueError: Authorization: ***, or *** of ***");
    for missing in ["extra_headers", "extra_body", "vertex_credentials"] {
        let others = arguments.iter().filter(|argument| !argument.starts_with(missing));
        let others: Vec<_> = others.flat_map(|argument| ["--lm", argument]).collect();
        let done = job.resume_with(&others).expect(2).says(&format!("`--lm {missing}=…`"));
        hidden(&job, &done, &secrets);
    }
    let done = job.resume_with(&given).expect(3);
    hidden(&job, &done, &secrets);
}

#[test]
fn help_tells_no_value_of_a_variable() {
    let job =
        Job::new().env("TAB_LM", "api_key=sk-planted-0114").env("TAB_API_BASE", "http://u:planted-0115@h/v1");
    for command in ["process", "compare", "doctor", "demo"] {
        let done = job.run(&[command, "--help"]).expect(0).prints("[env: TAB_LM]");
        hidden(&job, &done, &["planted-0114", "planted-0115"]);
    }
}

#[test]
fn credentials_in_the_url_of_the_api_are_asked_for_again_and_never_done_without() {
    let job = Job::new().questions(3).predictor("async def predict(question):\n    raise ValueError\n");
    job.process_with(&["--api-base", "http://user:planted-0101@127.0.0.1:9/v1"]).expect(3);
    let done = job.resume().expect(2).says("`--api-base http://***@127.0.0.1:9/v1`");
    hidden(&job, &done, &["planted-0101"]);
    for url in ["http://user:planted-0101@127.0.0.1:9/v1", "http://127.0.0.1:9/v1"] {
        job.resume_with(&["--api-base", url]).expect(3);
    }
}

/// A key that Python, JSON and URLs each write in their own way.
const ODD_KEY: &str = r#"sk-pl"an'té\d/0101+x="#;

#[test]
fn a_key_is_masked_in_every_form_it_takes() {
    let job = Job::new().questions(3).args(["--retries", "0", "-vv"]).env("ODD_API_KEY", ODD_KEY).predictor(
        "import base64, logging, sys, urllib.parse
key = os.environ['ODD_API_KEY']
basic = base64.b64encode(f'user:{key}'.encode()).decode()
forms = [key, repr(key)[1:-1], json.dumps(key)[1:-1], json.dumps(key, ensure_ascii=False)[1:-1],
         urllib.parse.quote(key), urllib.parse.quote(key, safe=''), urllib.parse.quote_plus(key)]
json.dump([*forms, basic[8:-4]], open('forms', 'w'))
class Odd:
    def __repr__(self): return f'Odd({key!r})'
async def predict(question, row_id):
    called(row_id)
    for form in forms: print('printed', form, flush=True)
    logging.warning('logged %r', {'Authorization': 'Basic ' + basic, 'key': key})
    if row_id == 0: raise ValueError({'key': key, 'url': 'https://h/?' + urllib.parse.urlencode({'key': key})})
    if row_id == 1: raise ValueError(json.dumps({'key': key}) + ' Basic ' + basic)
    return Odd()",
    );
    let done = job.process().expect(3);
    let forms: Vec<String> = serde_json::from_str(&job.read("forms")).unwrap();
    hidden(&job, &done, &forms.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(done.stderr.matches("printed ***\n").count(), 21, "{}", done.stderr);
    assert!(job.column("error")[0].contains("'key': '***', 'url': 'https://h/?key=***'"), "{done:?}");
}

#[test]
fn a_key_is_masked_in_all_that_python_writes_to_its_streams_however_it_is_cut() {
    let job = Job::new().questions(4).args(["-c", "1"]).env("MY_TOKEN", "tok-planted-0102").predictor(
        "import sys
streams = [sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__]
async def predict(question, row_id):
    called(row_id)
    stream = streams[row_id]
    for cut in range(17):
        for part in ('<', 'tok-planted-0102'[:cut], 'tok-planted-0102'[cut:], '>\\n'):
            stream.write(part)
            stream.flush()
            stream.buffer.write(part.encode())
            stream.buffer.flush()
    stream.buffer.write(b'[tok-planted-0102]\\n')
    stream.buffer.flush()
    return question",
    );
    let done = job.process().expect(0);
    hidden(&job, &done, &["tok-planted-0102"]);
    assert_eq!(done.stderr.matches("[***]\n").count(), 4, "{}", done.stderr);
    // Whole in one write of the two, in each round.
    assert_eq!(done.stderr.matches("<<").count(), 4 * 17, "{}", done.stderr);
    assert_eq!(done.stderr.matches(">\n>\n").count(), 4 * 17, "{}", done.stderr);
}

#[test]
fn what_may_be_the_beginning_of_a_key_is_shown_soon_and_never_lost() {
    let job = Job::new().questions(1).env("MY_TOKEN", "tok-planted-0103").predictor(
        "import sys
async def predict(question):
    called(question)
    print('first tok-', end='', flush=True)
    while not os.path.exists('gate'): await asyncio.sleep(0.01)
    sys.stderr.write('and at the end tok-pla')
    return question",
    );
    let mut running = job.start();
    running.wait_for(".stderr", "first tok-", 1);
    assert!(running.is_running());
    fs::write(job.path("gate"), "").unwrap();
    running.wait().expect(0).says("and at the end tok-pla");
}
