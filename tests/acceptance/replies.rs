//! What servers really send in place of an answer, through both of DSPy's engines, and what a user's own code raises.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::http::{Scripted, answer, completion, ok, reply};
use super::support::job::{Done, Job};

/// DSPy's own engine, and `LiteLLM`.
const ENGINES: [&[&str]; 2] = [&[], &["--lm", "engine=litellm"]];

fn process(job: &Job, server: &Scripted, options: &[&str]) -> Done {
    let base = server.base_url();
    let process = ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/gpt-4o-mini"];
    job.run(&[&process[..], &["--api-base", &base, "--backoff", "1ms", "-c", "4"], options].concat())
}

fn error(code: &str) -> String {
    ok(&format!(r#"{{"error": {{"message": "Provider returned error", "code": {code}}}}}"#))
}

#[test]
fn an_error_object_in_a_reply_with_status_200_is_that_error() {
    for engine in ENGINES {
        // As gateways pass on a refusal of the provider behind them.
        let server = Scripted::start(|question, before| match (question, before) {
            (0, 0) => error("429"),
            (1, 0) => error("502"),
            (2, _) => error("400"),
            _ => answer(question),
        });
        let job = Job::new().questions(4);
        process(&job, &server, engine).expect(3);
        assert_eq!(job.column("status"), ["ok", "ok", "failed", "ok"]);
        assert_eq!(job.column("attempts"), ["2", "2", "1", "1"]);
        let expected = json!({"LMInvalidRequestError": 1, "LMRateLimitError": 1, "LMServerError": 1});
        assert_eq!(job.report()["attempts"]["by_error"], expected);

        // Codes may be words, and may be missing.
        let server = Scripted::start(|question, before| match (question, before) {
            (0, 0) => error("\"rate_limit_exceeded\""),
            (1, 0) => ok(r#"{"error": {"message": "overloaded"}}"#),
            _ => answer(question),
        });
        let job = Job::new().questions(4);
        process(&job, &server, &[engine, &["--retries", "1"]].concat()).expect(0);
        assert_eq!(job.column("attempts"), ["2", "2", "1", "1"]);

        let server = Scripted::start(|_, _| error("\"invalid_api_key\""));
        process(&Job::new().questions(40), &server, engine).expect(4).says("this error affects every row");

        // Some put it beside a choice without text.
        let beside = r#"{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
            "finish_reason": "stop", "message": {"role": "assistant", "content": null}}], "error": {"message":
            "Provider returned error", "code": 429, "metadata": {"raw": "error code: 1015"}}}"#;
        let server =
            Scripted::start(move |question, before| if before == 0 { ok(beside) } else { answer(question) });
        let job = Job::new().questions(2);
        process(&job, &server, engine).expect(0);
        assert_eq!(job.report()["attempts"]["by_error"], json!({"LMRateLimitError": 2}), "{engine:?}");

        let server = Scripted::start(|_, _| error("401"));
        process(&Job::new().questions(40), &server, engine).expect(4).says("LMAuthError");
        assert!(server.asked().len() <= 8, "{:?}", server.asked());
    }
}

#[test]
fn a_reply_that_is_none_is_lost_and_asked_for_again() {
    let lost = |question: usize| match question {
        0 => ok("{}"),
        1 => reply("200", "", "<html><body>Please log in</body></html>")
            .replace("application/json", "text/html"),
        2 => ok(r#"{"id": "chatcmpl-1", "choices": [{"mess"#),
        _ => reply("200", "Connection: close\r\n", r#"{"id": 1}"#).replace("Length: 9", "Length: 999"),
    };
    for engine in ENGINES {
        let server = Scripted::start(
            move |question, before| if before == 0 { lost(question) } else { answer(question) },
        );
        let job = Job::new().questions(4);
        process(&job, &server, engine).expect(0);
        assert_eq!(job.column("attempts"), ["2"; 4]);
        // Each may have been billed.
        assert_eq!(job.report()["tokens"]["untold"], 4, "{engine:?}");
    }
}

#[test]
fn a_server_that_sends_nothing_but_pages_is_quoted_and_not_called_absent() {
    let server = Scripted::start(|_, _| ok("<html><body>Please log in</body></html>"));
    let job = Job::new().questions(40);
    let done = process(&job, &server, &["--retries", "0"]).expect(4);
    let done = done.says("Please log in");
    assert!(!done.stderr.contains("not there"), "{}", done.stderr);
    assert_eq!(job.report()["tokens"]["untold"], server.asked().len());
}

#[test]
fn a_server_that_fails_every_call_is_not_called_absent() {
    let server = Scripted::start(|_, _| reply("502", "", "<html>bad gateway</html>"));
    let job = Job::new().questions(40);
    let done = process(&job, &server, &[]).expect(5);
    let done = done.says("the server fails each of them").says("HTTP 502");
    assert!(!done.stderr.contains("not there"), "{}", done.stderr);
}

#[test]
fn a_refusal_and_a_reply_without_text_are_asked_for_once_more_and_shown() {
    for engine in ENGINES {
        let server = Scripted::start(|question, _| match question {
            0 => completion(
                &json!({"role": "assistant", "content": null, "refusal": "I cannot help with that."}),
                "stop",
            ),
            1 => completion(&json!({"role": "assistant", "content": "Well,"}), "content_filter"),
            2 => completion(&json!({"role": "assistant", "content": null}), "stop"),
            3 => {
                let call =
                    json!({"id": "1", "type": "function", "function": {"name": "search", "arguments": "{}"}});
                completion(&json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls")
            }
            _ => answer(question),
        });
        let job = Job::new().questions(8);
        process(&job, &server, &[engine, &["--retries", "5"]].concat()).expect(3);
        let errors = job.column("error");
        assert!(
            errors[0].starts_with("refused: the model refused: I cannot help with that."),
            "{}",
            errors[0]
        );
        assert!(errors[1].starts_with("refused: ") && errors[1].contains("content_filter"), "{}", errors[1]);
        assert_eq!(errors[2], "empty: the reply has no text (finish reason: stop)");
        assert_eq!(errors[3], "empty: the reply has no text, and calls `search` (finish reason: tool_calls)");
        assert_eq!([0, 1, 2, 3, 4].map(|question| server.times(question)), [2, 2, 2, 2, 1]);
        let report = job.report();
        assert_eq!(report["attempts"]["by_error"], json!({"refused": 4, "empty": 4}));
        assert_eq!(report["rows"]["failed_by_class"], json!({"refused": 2, "empty": 2}));
        assert_eq!(report["tokens"], json!({"input": 60, "output": 24, "calls": 12}));
    }
}

#[test]
fn a_reply_without_choices_is_empty() {
    let body = r#"{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}"#;
    for engine in ENGINES {
        let server =
            Scripted::start(move |question, _| if question == 0 { ok(body) } else { answer(question) });
        let job = Job::new().questions(4);
        process(&job, &server, engine).expect(3);
        assert_eq!(job.column("error")[0], "empty: the reply has no text (finish reason: none given)");
        assert_eq!(server.times(0), 2);
    }
}

/// Cut off in its answer, or, one question, before there was any.
fn cut_off(question: usize) -> String {
    let text = match question {
        0 => "[[ ## reasoning ## ]]\nFirst of a",
        _ => "[[ ## reasoning ## ]]\nBy heart.\n\n[[ ## answer ## ]]\nAns",
    };
    completion(&json!({"role": "assistant", "content": text}), "length")
}

#[test]
fn answers_cut_off_are_kept_counted_and_said_once() {
    for engine in ENGINES {
        let server = Scripted::start(|question, _| cut_off(question));
        let job = Job::new().questions(10);
        let done = process(&job, &server, engine).expect(3);
        assert_eq!(done.stderr.matches("an answer was cut off at max_tokens").count(), 1, "{}", done.stderr);
        assert!(!done.stderr.contains("truncated"), "{}", done.stderr);
        done.prints("9 answers at max_tokens").says("--cut-off fail");
        let report = job.report();
        assert_eq!((&report["rows"]["ok"], &report["rows"]["cut_off"]), (&json!(9), &json!(9)));
        assert!(job.read("answers.csv.report.html").contains("cut off"), "the page tells it too");
        // What cannot be read even so is not bought four times.
        assert!(job.column("error")[0].starts_with("cut_off: "), "{}", job.column("error")[0]);
        assert_eq!((server.times(0), server.times(1)), (2, 1));
    }
}

#[test]
fn answers_cut_off_fail_where_that_was_asked_for() {
    let server =
        Scripted::start(|question, _| if question < 5 { cut_off(question + 1) } else { answer(question) });
    let job = Job::new().questions(10);
    process(&job, &server, &["--cut-off", "fail"]).expect(3);
    assert_eq!(job.column("status"), [vec!["failed"; 5], vec!["ok"; 5]].concat());
    assert_eq!(server.asked().len(), 10, "the same again would be cut off again");
    let report = job.report();
    assert_eq!(report["rows"]["failed_by_class"], json!({"cut_off": 5}));
    assert_eq!(report["rows"]["cut_off"], 0);
    assert_eq!(report["tokens"], json!({"input": 50, "output": 20, "calls": 10}), "they are paid for");
    assert!(!job.column("error")[0].is_empty());
    // The option is the job's: it holds again, unless given anew.
    job.resume_with(&["--cut-off", "keep"]).expect(0);
    assert_eq!(job.report()["rows"]["cut_off"], 5);
}

#[test]
fn a_limit_that_tells_when_it_is_lifted_is_waited_for() {
    for (engine, unit) in ENGINES.into_iter().flat_map(|engine| [(engine, true), (engine, false)]) {
        let times = Arc::<Mutex<Vec<Instant>>>::default();
        let told = Arc::clone(&times);
        let server = Scripted::start(move |question, before| {
            told.lock().unwrap().push(Instant::now());
            let fields = if unit {
                "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1s\r\n\
                 x-ratelimit-remaining-tokens: 99\r\nx-ratelimit-reset-tokens: 6m0s\r\n"
            } else {
                "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1\r\n"
            };
            if before == 0 {
                reply("429", fields, r#"{"error": {"message": "slow down"}}"#)
            } else {
                answer(question)
            }
        });
        let job = Job::new().questions(1);
        process(&job, &server, engine).expect(0);
        let times = times.lock().unwrap();
        let waited = times[1] - times[0];
        assert!(waited >= Duration::from_millis(990) && waited < Duration::from_secs(20), "{waited:?}");
    }
}

#[test]
fn what_only_wraps_an_error_tells_it_and_every_reason_is_recorded() {
    let job = Job::new().questions(4).predictor(
        "import tenacity

@tenacity.retry(stop=tenacity.stop_after_attempt(2))
async def given_up():
    raise ConnectionError('no route to the model')

async def one(text):
    raise KeyError(text)

async def predict(question, row_id):
    called(row_id)
    if row_id == 0:
        await given_up()
    if row_id == 1:
        async with asyncio.TaskGroup() as group:
            group.create_task(one('alone'))
    if row_id == 2:
        async with asyncio.TaskGroup() as group:
            group.create_task(one('this'))
            group.create_task(one('that'))
    try:
        await one('below')
    except KeyError as error:
        raise RuntimeError('no answer') from error
",
    );
    job.process_with(&["--retries", "1", "--backoff", "1ms"]).expect(3);
    let errors = job.column("error");
    assert_eq!(errors[0], "ConnectionError: no route to the model");
    assert_eq!(errors[1], "KeyError: 'alone'");
    assert!(errors[2].starts_with("ExceptionGroup: "), "{}", errors[2]);
    assert!(errors[2].ends_with("; KeyError: 'this'; KeyError: 'that'"), "{}", errors[2]);
    assert_eq!(errors[3], "RuntimeError: no answer; caused by KeyError: 'below'");
    // Of its class is also whether it is tried again.
    assert_eq!(job.column("attempts"), ["2", "1", "2", "2"]);
    assert!(job.read("answers.csv.journal").contains("in given_up"), "where it was raised");
}
