//! Real DSPy over HTTP against a scripted server: answers, faults, tokens, keys.

use super::support::aimock::{Aimock, Fixtures};
use super::support::job::{Done, Job};
use serde_json::{Value, json};

/// `process questions.csv` by the default predictor on the server.
fn ask(job: &Job, server: &Aimock, options: &[&str]) -> Done {
    let base = server.base_url();
    let all = [
        "process",
        "questions.csv",
        "-o",
        "answers.csv",
        "--model",
        "openai/gpt-4o-mini",
        "--api-base",
        &base,
    ];
    job.run(&[&all, options].concat())
}

/// The same with a predictor of the user's file.
fn ask_by(job: &Job, server: &Aimock, options: &[&str]) -> Done {
    ask(job, server, &[&["--predictor", "predictor.py:predict"], options].concat())
}

/// Status codes of the requests the server has seen.
fn statuses(server: &Aimock) -> Vec<u64> {
    server.journal().iter().map(|entry| entry["response"]["status"].as_u64().unwrap()).collect()
}

/// `Answer 0` and so on.
fn answers(rows: usize) -> Vec<String> {
    (0..rows).map(|row| format!("Answer {row}")).collect()
}

#[test]
fn each_of_2000_rows_gets_the_answer_to_its_own_question_by_one_request() {
    let server = Aimock::start(&Fixtures::numbered(2000));
    let job = Job::new().questions(2000);
    ask(&job, &server, &["-c", "64"]).expect(0);
    assert_eq!(job.column("answer"), answers(2000));
    assert_eq!(server.journal().len(), 2000);
    let report = job.report();
    assert_eq!(report["attempts"]["total"], 2000);
    assert_eq!(report["concurrency"]["achieved_max"], 64);
    assert_eq!(report["tokens"], json!({"input": 200_000, "output": 20_000, "calls": 2000}));
}

#[test]
fn injected_429_and_500_are_retried_until_every_row_is_answered() {
    let server = Aimock::start(&Fixtures::numbered(2_000));
    server.chaos(&json!({"dropRate": 0.05, "rateLimitRate": 0.105}));
    let job = Job::new().questions(2_000);
    ask(&job, &server, &["-c", "64", "--retries", "8", "--backoff", "50ms", "--backoff-max", "100ms"])
        .expect(0);
    assert_eq!(job.column("answer"), answers(2_000));

    let statuses = statuses(&server);
    let of = |status: u64| statuses.iter().filter(|seen| **seen == status).count();
    assert!(of(429) > 100 && of(500) > 50, "{} and {} were injected", of(429), of(500));
    assert_eq!(of(200), 2_000);
    let report = job.report();
    let attempts = &report["attempts"];
    // A busy server may close an idle connection just as a request sets out on it. The request reaches nobody, and its
    // attempt is told as what it was.
    let mut by_error = attempts["by_error"].clone();
    let lost = by_error.as_object_mut().unwrap().remove("LMTransportError").unwrap_or_default();
    let lost = lost.as_u64().unwrap_or_default();
    assert!(lost < 50, "{attempts}");
    assert_eq!(
        attempts["total"],
        statuses.len() as u64 + lost,
        "one request an attempt, failed ones too: {attempts}"
    );
    assert_eq!(by_error, json!({"LMRateLimitError": of(429), "LMServerError": of(500)}));
    assert_eq!(report["tokens"]["input"], 2_000 * 100, "as billed");
    assert_eq!(report["tokens"]["output"], 2_000 * 10);
}

#[test]
fn a_refused_key_stops_the_run_and_the_rest_is_answered_by_resume() {
    let refuse = json!({"userMessage": "Question", "sequenceIndex": 0});
    let error = json!({"error": {"message": "bad key", "type": "invalid_request_error"}, "status": 401});
    let server = Aimock::start(&Fixtures::numbered(0).fixture(&refuse, &error));
    let job = Job::new().questions(100).env("OPENAI_API_KEY", "sk-refused-12345");
    let done = ask(&job, &server, &["-c", "2"]).expect(4);
    assert!(!format!("{done:?}").contains("sk-refused"), "{}", done.stderr);
    let requests = server.journal().len();
    assert!(requests <= 4, "{requests} requests with a refused key");
    let status = job.column("status");
    assert!(status.iter().filter(|status| *status == "unfinished").count() >= 96, "{status:?}");
    assert_eq!(status.iter().filter(|status| *status == "ok").count(), 0);
    assert!(job.report()["stopped"].as_str().unwrap().contains("LMAuthError"));

    let mended = Aimock::start(&Fixtures::numbered(100));
    job.resume_with(&["--api-base", &mended.base_url()]).expect(0);
    assert_eq!(job.column("answer"), answers(100));
    assert_eq!(mended.journal().len(), 100);
}

#[test]
fn output_that_does_not_parse_is_asked_for_again_and_billed_as_it_was() {
    let usage =
        |tokens: u64| json!({"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1});
    let asked = json!({"userMessage": "Question 0?", "sequenceIndex": 0});
    let server = Aimock::start(
        &Fixtures::default()
            .fixture(&asked, &json!({"content": "I would rather not.", "usage": usage(7)}))
            .answer("Question 0?", "Answer 0"),
    );
    let job = Job::new().questions(1);
    ask(&job, &server, &["--backoff", "10ms"]).expect(0);
    assert_eq!(job.column("answer"), ["Answer 0"]);
    assert_eq!(job.column("attempts"), ["2"]);
    assert_eq!(server.journal().len(), 2, "no hidden second request");
    assert_eq!(job.report()["tokens"], json!({"input": 107, "output": 11, "calls": 2}));
}

#[test]
fn a_refused_request_fails_its_row_alone_and_output_that_never_parses_uses_up_its_retries() {
    let fixtures = Fixtures::default().fail("Question 3?", 400).text("Question 5?", "I would rather not.");
    let base = (0..8).filter(|row| ![3, 5].contains(row)).fold(fixtures, |fixtures, row| {
        fixtures.answer(&format!("Question {row}?"), &format!("Answer {row}"))
    });
    let server = Aimock::start(&base);
    let job = Job::new().questions(8);
    ask(&job, &server, &["--retries", "2", "--backoff", "10ms"]).expect(3);
    let answers = job.answers();
    for (row, record) in answers.iter().enumerate() {
        let (status, attempts, error) = match row {
            3 => ("failed", "1", "LMInvalidRequestError"),
            5 => ("failed", "3", "AdapterParseError"),
            _ => ("ok", "1", ""),
        };
        assert_eq!((record["status"].as_str(), record["attempts"].as_str()), (status, attempts), "row {row}");
        assert!(record["error"].starts_with(error), "{}", record["error"]);
    }
    assert_eq!(server.journal().len(), 6 + 1 + 3);
}

#[test]
fn a_missing_key_is_refused_before_anything_is_called_or_written() {
    let job = Job::new().questions(3);
    let done = job
        .run(&["process", "questions.csv", "-o", "answers.csv", "--model", "openai/gpt-4o-mini"])
        .expect(1);
    done.says("`openai/gpt-4o-mini` needs a key").says("hint: set `OPENAI_API_KEY`");
    assert!(!job.path("answers.csv.journal").exists() && !job.path("answers.csv").exists());
}

#[test]
fn a_module_of_the_users_file_asks_the_model_of_the_command_line() {
    let server = Aimock::start(&Fixtures::numbered(20));
    let job = Job::new().questions(20).predictor(
        "
import dspy
class Quiz(dspy.Module):
    def __init__(self):
        super().__init__()
        self.think = dspy.ChainOfThought('question -> answer')
    async def aforward(self, question):
        called(question)
        return await self.think.acall(question=question)
predict = Quiz()
",
    );
    ask_by(&job, &server, &[]).expect(0).says("dspy.Module Quiz");
    assert_eq!(job.column("answer"), answers(20));
    assert_eq!((job.calls().len(), server.journal().len()), (20, 20));
    assert_eq!(job.report()["tokens"]["input"], 2000);
}

#[test]
fn a_module_that_configured_its_own_model_asks_that_one() {
    let server = Aimock::start(&Fixtures::numbered(20));
    let job = Job::new().questions(20).env("OWN_BASE", &server.base_url()).predictor(
        "
import dspy
dspy.configure(lm=dspy.LM('openai/own-model', api_base=os.environ['OWN_BASE'], api_key='none', cache=False))
predict = dspy.ChainOfThought('question -> answer')
",
    );
    job.process().expect(0);
    assert_eq!(job.column("answer"), answers(20));
    let models = server.journal().into_iter().map(|entry| entry["body"]["model"].clone());
    assert!(models.clone().all(|model| model == "own-model"), "{:?}", models.collect::<Vec<_>>());
    assert_eq!(server.journal().len(), 20);
    assert_eq!(job.report()["tokens"]["input"], 2000);
}

#[test]
fn a_function_is_lent_the_model_that_the_command_line_names() {
    let server = Aimock::start(&Fixtures::numbered(20));
    let job = Job::new().questions(20).predictor(
        "
import dspy
think = dspy.ChainOfThought('question -> answer')
async def predict(question):
    called(question)
    prediction = await think.acall(question=question)
    return {'answer': prediction.answer, 'shouted': prediction.answer.upper()}
",
    );
    ask_by(&job, &server, &[]).expect(0);
    assert_eq!(job.column("answer"), answers(20));
    assert_eq!(job.column("shouted")[7], "ANSWER 7");
    let models: Vec<Value> =
        server.journal().into_iter().map(|entry| entry["body"]["model"].clone()).collect();
    assert_eq!(models, vec![Value::from("gpt-4o-mini"); 20]);
}
