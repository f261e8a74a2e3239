//! The local model's server, for real: needs the virtual environment that `make test` makes.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::http;
use super::support::job::{Job, installed_into};

fn python() -> PathBuf {
    let python = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    assert!(python.exists(), "`.venv` is missing: run `make test`");
    python
}

#[test]
fn its_server_completes_a_chat_and_ends_with_its_parent_however_that_ends() {
    let mut child = Command::new(python())
        .args(["-P", "-c", include_str!("../../src/local_model/server.py"), "2", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let ready: Value = serde_json::from_str(&ready).expect(&ready);
    let api_base = ready["api_base"].as_str().unwrap();
    let body = r#"{"model": "local", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello!"}]}"#;
    let response = http::send("POST", &format!("{api_base}/chat/completions"), body);
    assert!(response.contains(r#""choices""#), "{response}");

    // All that a killed parent leaves behind is the closed pipe.
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let address = api_base.trim_start_matches("http://").trim_end_matches("/v1");
    assert!(TcpStream::connect(address).is_err(), "the server still listens");
}

#[test]
fn the_default_predictor_answers_a_questions_file_with_no_key_and_no_network() {
    let job = Job::new();
    let questions = concat!(env!("CARGO_MANIFEST_DIR"), "/data/questions.csv");
    job.run(&["process", questions, "-o", "answers.csv", "--limit", "3"]).expect(0).says("local model");
    let answers = job.column("answer");
    assert!(answers[0].contains("Paris") && answers[1].contains("Jupiter"), "{answers:?}");
    assert_eq!(job.report()["tokens"]["calls"], 3);
}

#[test]
fn a_dry_run_announces_as_many_calls_at_once_as_a_run_makes() {
    let job = Job::new().questions(1);
    let announced = |options: &[&str]| {
        let process = ["process", "questions.csv", "-o", "answers.csv", "-c", "64"];
        let done = job.run(&[&process[..], options].concat()).expect(0).says("on the local model");
        let line = done.stderr.lines().find(|line| line.contains(" at once on ")).unwrap().to_owned();
        line.replace("; dry run: nothing is called", "")
    };
    let planned = announced(&["--dry-run"]);
    assert_eq!(planned, announced(&[]));
    assert!(!planned.contains("; 64 calls at once"), "{planned}");
}

/// Sets and removes variables on a thread of its own while the model is started. DSPy and what it needs are imported
/// before, for some of it reads the environment without the interpreter's lock.
const RESTLESS: &str = r#"
import collections, threading
import dspy, litellm

def restless():
    names = [f"RESTLESS_{i}".encode() for i in range(200)]
    values = [b"x"] * len(names)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        collections.deque(map(os.putenv, names, values), maxlen=0)
        collections.deque(map(os.unsetenv, names), maxlen=0)

threading.Thread(target=restless, daemon=True).start()

async def predict(question):
    return question
"#;

#[test]
fn it_starts_while_python_code_changes_the_environment() {
    let job = Job::new().questions(1).predictor(RESTLESS).args(["--model", "local", "--dry-run"]);
    for _ in 0..2 {
        job.process().expect(0).says("on the local model");
    }
}

#[test]
fn an_environment_without_the_packages_is_refused_with_the_command_that_installs_them() {
    if installed_into().is_some() {
        return; // it runs in that Python, and looks for no other
    }
    let job = Job::new().questions(3);
    let bare = job.path("bare");
    let made = Command::new(python()).args(["-m", "venv", "--without-pip"]).arg(&bare).status().unwrap();
    assert!(made.success());
    let job = job.env("VIRTUAL_ENV", bare.to_str().unwrap());
    job.run(&["process", "questions.csv", "-o", "answers.csv"])
        .expect(1)
        .says("`dspy`")
        .says("run `make setup`");
    assert!(!job.path("answers.csv.journal").exists());
}
