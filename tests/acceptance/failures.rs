//! `report --failures`: every row to look at, with all that is recorded of why.

use serde_json::{Value, json};

use super::support::http::{Scripted, completion};
use super::support::job::Job;

#[test]
fn each_failed_row_is_printed_with_its_error_and_traceback_also_after_a_kill() {
    let job = Job::new().questions(5).predictor(
        "
def helper(text):
    raise ValueError(text)
async def predict(question, row_id, attempt):
    called(row_id)
    if row_id == 1:
        helper('first line\\nsecond \\x1b[2J line')
    if row_id == 2 and attempt == 1:
        raise RuntimeError('dropped')
    if row_id == 3:
        if attempt == 2:
            open('tried', 'w').close()
        raise RuntimeError(f'attempt {attempt}')
    if row_id == 4:
        while not os.path.exists('tried'):
            await asyncio.sleep(0.01)
        # Its outcome is recorded a moment later.
        await asyncio.sleep(0.5)
        os.kill(os.getpid(), 9)
    return question
",
    );
    job.process_with(&["--backoff", "1ms", "--retries", "1", "-c", "2"]).expect(-9);
    let report = ["report", "answers.csv", "--failures"];
    let text = job.run(&report).expect(0).stdout;
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("row ")).collect();
    assert_eq!(
        rows,
        [
            "row 1: ValueError: first line",
            "row 3: RuntimeError: attempt 2 (2 attempts: RuntimeError, RuntimeError)"
        ],
        "{text}"
    );
    assert!(text.contains("  second \\u{1b}[2J line\n") && !text.contains('\u{1b}'), "{text}");
    assert!(
        text.contains("  Traceback (most recent call last):\n") && text.contains(", in helper\n"),
        "{text}"
    );
    assert!(!text.contains("Attempts"), "the summary is another command: {text}");
}

#[test]
fn a_row_that_was_answered_in_the_end_is_no_failure() {
    let job = Job::new().questions(2).predictor(
        "async def predict(question):\n    if not os.path.exists('go'): raise ValueError\n    return question\n",
    );
    job.process().expect(3);
    assert_eq!(
        job.run(&["report", "answers.csv", "--failures"])
            .expect(0)
            .stdout
            .matches("\nrow 1: ValueError\n")
            .count(),
        1
    );
    std::fs::write(job.path("go"), "").unwrap();
    job.resume().expect(0);
    let done = job.run(&["report", "answers.csv", "--failures"]).expect(0);
    assert_eq!(done.stdout, "No row failed, and no answer was cut off.\n");
}

#[test]
fn a_reply_that_cannot_be_read_is_told_with_its_request_id() {
    let message = json!({"role": "assistant", "content": "no field"});
    let reply =
        completion(&message, "stop").replacen("Content-Length", "X-Request-Id: req_7\r\nContent-Length", 1);
    let server = Scripted::start(move |_, _| reply.clone());
    let job = Job::new().questions(1);
    let base = server.base_url();
    let process =
        ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/m", "--api-base", &base];
    job.run(&[&process[..], &["--lm", "engine=litellm", "--retries", "0"]].concat()).expect(3);
    let failure = &job.report()["failures"][0];
    assert_eq!((&failure["class"], &failure["request_id"]), (&json!("AdapterParseError"), &json!("req_7")));
}

#[test]
fn the_servers_request_ids_of_all_attempts_are_told_wherever_attempts_are() {
    let job = Job::new().questions(2).predictor(
        "
class Refused(Exception):
    def __init__(self, status, request_id):
        super().__init__('refused')
        self.status, self.request_id = status, request_id
async def predict(question, row_id, attempt):
    if row_id == 0 and not os.path.exists('mended'):
        raise Refused(503 if attempt == 1 else 400, f'req_{attempt}')
    return question
",
    );
    let process = job.process_with(&["--backoff", "1ms", "--progress", "json"]).expect(3);
    let lines = process.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let attempts: Vec<_> = lines.filter(|line| line["type"] == "attempt").collect();
    let told = |attempts: &[Value]| -> Vec<(u64, String)> {
        let one =
            |it: &Value| (it["number"].as_u64().unwrap(), it["request_id"].as_str().unwrap().to_owned());
        attempts.iter().map(one).collect()
    };
    let both = [(1, "req_1".to_owned()), (2, "req_2".to_owned())];
    assert_eq!(told(&attempts), both);
    assert_eq!(told(job.report()["failures"].as_array().unwrap()), both);
    let journal = job.read("answers.csv.journal");
    assert_eq!(journal.matches(r#""request_id":"req_"#).count(), 2, "{journal}");

    let text = job.run(&["report", "answers.csv", "--failures"]).expect(0).stdout;
    let row = text.lines().find(|line| line.starts_with("row 0")).unwrap();
    assert_eq!(
        row,
        "row 0: Refused: refused (HTTP 400) (request req_2) (2 attempts: Refused (request req_1), Refused (request req_2))"
    );

    std::fs::write(job.path("mended"), "").unwrap();
    job.resume().expect(0);
    assert_eq!(told(job.report()["failures"].as_array().unwrap()), both, "read back by `resume`");
}
