//! What the environment gives every client, named before the first call: keys that no request can carry, dead proxies.

use std::net::TcpListener;

use super::support::http::{Scripted, answer};
use super::support::job::{Done, Job};

fn process(job: &Job, server: &Scripted, options: &[&str]) -> Done {
    let base = server.base_url();
    let process = ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/gpt-4o-mini"];
    job.run(&[&process[..], &["--api-base", &base], options].concat())
}

/// An address where nobody listens.
fn nobody() -> String {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    address.to_string()
}

#[test]
fn a_key_that_cannot_be_sent_is_named_with_what_it_holds_before_the_first_call() {
    let server = Scripted::start(|question, _| answer(question));
    for (key, what) in [
        ("sk-12345678\r", "a carriage return (`\\r`)"),
        ("sk-12345678\n", "a newline (`\\n`)"),
        ("\u{201c}sk-12345678\u{201d}", "a curly quote"),
        ("\"sk-12345678\"", "a quotation mark at one end"),
        (" sk-12345678", "a space at one end"),
        ("sk-1234\u{a0}5678", "the character U+00A0"),
    ] {
        let job = Job::new().questions(3).env("OPENAI_API_KEY", key);
        let done = process(&job, &server, &[]).expect(1).says(&format!("`OPENAI_API_KEY` holds {what}"));
        assert!(!done.stderr.contains("12345678"), "{}", done.stderr);
        assert!(!job.path("answers.csv.journal").exists());
    }
    let job = Job::new().questions(3);
    process(&job, &server, &["--lm", "api_key=sk-12345678\u{2019}"])
        .expect(1)
        .says("`--lm api_key=` holds a curly quote");
    assert_eq!(server.asked().len(), 0);
    // A function may use any key there is: it is told of it.
    let job = Job::new().questions(3).echo().env("ANTHROPIC_API_KEY", "sk-12345678\r");
    job.process().expect(0).says("`ANTHROPIC_API_KEY` holds a carriage return");
}

#[test]
fn a_proxy_where_nobody_listens_is_named_by_its_variable_before_the_first_call() {
    let server = Scripted::start(|question, _| answer(question));
    let dead = nobody();
    for (variable, value) in [
        ("http_proxy", format!("http://{dead}")),
        ("HTTP_PROXY", format!("http://user:hunter2hunter2@{dead}/")),
        ("all_proxy", dead.clone()),
    ] {
        let job = Job::new().questions(3).env(variable, &value);
        let done = process(&job, &server, &[]).expect(1);
        let done = done.says(&format!("`{variable}` names a proxy at {dead} that cannot be reached"));
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
        assert_eq!(server.asked().len(), 0);
    }
    // Where no request goes through it, it is nobody's business.
    let job = Job::new().questions(3).env("http_proxy", &dead).env("no_proxy", "127.0.0.1");
    process(&job, &server, &[]).expect(0);
    let job = Job::new().questions(3).env("https_proxy", &dead);
    process(&job, &server, &[]).expect(0);
    assert_eq!(server.asked().len(), 6);
    let job = Job::new().questions(3).echo().env("https_proxy", &dead);
    job.process().expect(0).says(&format!("`https_proxy` names a proxy at {dead}"));
}

#[test]
fn quiet_also_quiets_the_lines_that_dspy_and_litellm_log_for_each_call() {
    let code = "
import dspy, litellm, logging
async def predict(question):
    logging.getLogger('dspy.clients.lm').warning('a line of DSPy')
    logging.getLogger('LiteLLM').warning('a line of LiteLLM')
    logging.getLogger('mine').warning('a line of mine')
    logging.getLogger('dspy.clients.lm').error('an error')
    return question
";
    let job = Job::new().questions(3).predictor(code);
    job.process().expect(0).says("a line of DSPy");
    let done = job.process_with(&["--force", "-q"]).expect(0);
    assert!(
        !done.stderr.contains("a line of DSPy") && !done.stderr.contains("a line of LiteLLM"),
        "{}",
        done.stderr
    );
    done.says("a line of mine").says("an error");
}
