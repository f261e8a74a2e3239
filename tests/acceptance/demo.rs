//! `demo`: what each example prints and how often it calls. The figures are the machine's, so they are left out.

use std::net::TcpListener;

use super::support::job::{Done, Job};
use serde_json::Value;

/// Notes how many calls run with its own; the question about Japan fails.
fn job() -> Job {
    Job::new().args(["--predictor", "predictor.py:predict"]).predictor(
        "
running = 0
async def predict(question):
    global running
    running += 1
    called(running)
    await asyncio.sleep(0.05)
    running -= 1
    if 'Japan' in question:
        raise LookupError('\x1b[31mno such country')
    return 'About ' + question
",
    )
}

/// What was printed, with `…` for each span of time.
fn text(done: &Done) -> String {
    let mut text = done.stdout.trim_end().to_owned();
    for unit in [" ns", " µs", " ms", " s"] {
        while let Some(end) = text.match_indices(unit).map(|(at, _)| at).find(|at| {
            let after = text[at + unit.len()..].chars().next();
            text[..*at].ends_with(|c: char| c.is_ascii_digit()) && after.is_none_or(|c| !c.is_alphanumeric())
        }) {
            let start = text[..end].rfind(|c: char| c != '.' && !c.is_ascii_digit()).map_or(0, |at| at + 1);
            text.replace_range(start..end + unit.len(), "…");
        }
    }
    text
}

#[test]
fn a_basic_call_prints_question_answer_and_time() {
    let job = job();
    let done = job.run(&["demo", "1"]).expect(0);
    insta::assert_snapshot!(text(&done), @r"
    ============================================================
    Tokio-AsyncIO Bridge Example
    ============================================================

    Example 1: Basic call
    (asking predictor.py:predict (async function))
    ✓ Question: What is the capital of France?
      Answer: About What is the capital of France?
      Time: …
    ");
    assert_eq!(job.calls().len(), 1);
}

#[test]
fn a_timeout_cancels_the_python_task() {
    insta::assert_snapshot!(text(&Job::new().run(&["demo", "3"]).expect(0)), @r"
    ============================================================
    Tokio-AsyncIO Bridge Example
    ============================================================

    Example 3: Timeout
    ✓ Question: Are you there? (at most …)
      Timed out after: …
      Python task cancelled after another: …
    ✓ Question: Are you there? (at most …)
      Answer: An answer to: Are you there?
      Time: …
    ");
}

#[test]
fn each_kind_of_error_is_caught_by_its_type() {
    insta::assert_snapshot!(text(&Job::new().run(&["demo", "4"]).expect(0)), @r#"
    ============================================================
    Tokio-AsyncIO Bridge Example
    ============================================================

    Example 4: Error handling
    ✓ A Python exception: `CallError::Predictor`
      Class: ValueError
      Message: no answer to 'Why?'
    ✓ An invalid object, refused before any call: `LoadError`
      Message: the predictor is a value of type int, which cannot be called
    ✓ A wrong type: `CallError::Output`
      Message: the predictor returned a value of type complex, which cannot be an answer: 42j; hint: return text, a mapping, dataclass, attrs or pydantic model (one column a field, such as `{"answer": "Paris", "score": 0.9}`), or a value that JSON can hold
    "#);
}

#[test]
fn any_async_function_and_any_async_generator_will_do() {
    insta::assert_snapshot!(text(&Job::new().run(&["demo", "6"]).expect(0)), @r"
    ============================================================
    Tokio-AsyncIO Bridge Example
    ============================================================

    Example 6: Custom async function
    ✓ Question: Any async function?
      Answer: ANY ASYNC FUNCTION?
      Time: …
    ");
    insta::assert_snapshot!(text(&Job::new().run(&["demo", "7"]).expect(0)), @r"
    ============================================================
    Tokio-AsyncIO Bridge Example
    ============================================================

    Example 7: Streaming
    ✓ Question: How do you answer?
      Answer: One word at a time.
      Time: …
      First chunk after: …
    ");
}

#[test]
fn the_others_are_run_after_one_that_fails_and_five_calls_at_once_are_five_times_as_fast() {
    let job = job();
    let done = job.run(&["demo"]).expect(1);
    let titles: Vec<_> = done.stdout.lines().filter(|line| line.starts_with("Example ")).collect();
    assert_eq!(titles.len(), 7, "{titles:?}");
    let failed: Vec<_> = done.stdout.lines().filter(|line| line.starts_with('✗')).collect();
    assert_eq!(failed, [r"✗ LookupError: \u{1b}[31mno such country"], "{}", done.stdout);

    // One, then three of which two at a time, then five: for warming up, one after the other, at once.
    let calls = job.calls();
    assert_eq!(calls.len(), 1 + 3 + 3 * 5);
    let most = |calls: &[Value]| calls.iter().filter_map(Value::as_u64).max();
    assert_eq!([&calls[1..4], &calls[4..14], &calls[14..]].map(most), [Some(2), Some(1), Some(5)]);

    let speedups = done.stdout.lines().filter_map(|line| line.trim().strip_prefix("Speedup: "));
    let speedups: Vec<f64> = speedups.map(|figure| figure.trim_end_matches('x').parse().unwrap()).collect();
    assert!(speedups.len() == 2 && speedups[0] > 4.0 && speedups[0] < 5.1, "{speedups:?}");
    assert!(done.stdout.contains("  Limited by: the slowest call: "), "{}", done.stdout);
}

#[test]
fn the_local_model_is_asked_by_default() {
    let done = Job::new().run(&["demo", "1"]).expect(0);
    done.prints("(asking dspy.ChainOfThought(question -> answer) on the local model")
        .prints("  Answer: Paris\n");
}

#[test]
fn a_model_that_never_answers_ends_the_example_and_not_the_demo() {
    // Connections are taken by the system; nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", silent.local_addr().unwrap());
    let asked = ["demo", "--model", "openai/any", "--api-base", &url, "--timeout", "300ms"];
    let done = Job::new().run(&asked).expect(1);
    let failed = "✗ no answer within 300ms\n  hint: is the model up? `--timeout` gives it longer\n";
    // Of seven examples, three ask the model.
    assert_eq!(done.stdout.matches(failed).count(), 3, "{}", done.stdout);
    assert_eq!(done.stdout.matches('✗').count(), 3, "{}", done.stdout);
    assert!(done.stdout.contains("Answer: One word at a time."), "{}", done.stdout);
}

#[test]
fn what_cannot_be_shown_is_refused() {
    Job::new().run(&["demo", "8"]).expect(2).says("8 is not in 1..=7");
    let done = Job::new().run(&["demo", "4", "--python", "./python"]).expect(1);
    assert_eq!(done.stdout, "");
    insta::assert_snapshot!(done.stderr, @r"
    error: failed to run `./python`: No such file or directory (os error 2)
    hint: give the virtual environment's interpreter with `--python PATH`, or run `make setup`
    ");
    let done = Job::new().run(&["demo", "1", "--model", "openai/gpt-4o-mini"]).expect(1);
    insta::assert_snapshot!(done.stdout, @r"
    ============================================================
    Tokio-AsyncIO Bridge Example
    ============================================================

    Example 1: Basic call
    ✗ failed to load the predictor `dspy`: `openai/gpt-4o-mini` needs a key
      hint: set `OPENAI_API_KEY`, or `--api-base` for a server without keys
    ");
}
