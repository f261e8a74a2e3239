//! An OpenAI-compatible server with scripted answers, for tests of the real predictor.
//!
//! Random faults (`chaos`) are drawn in the order `dropRate` (a 500), `malformedRate`, `rateLimitRate` (a 429 with
//! Retry-After), `disconnectRate`. Each rate applies to the requests that the earlier faults spared: for 5 % and 10 %
//! of all requests, use `{"dropRate": 0.05, "rateLimitRate": 0.105}`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

const PROGRAM: &str = "tests/node_modules/@copilotkit/aimock/dist/cli.js";

/// What the server answers. The first fixture that matches a request answers it.
#[derive(Default)]
pub(crate) struct Fixtures(Vec<Value>);

impl Fixtures {
    /// `Question 0?` to `Question <count - 1>?`, answered with `Answer 0` and so on.
    pub(crate) fn numbered(count: usize) -> Self {
        (0..count).fold(Self::default(), |fixtures, i| {
            fixtures.answer(&format!("Question {i}?"), &format!("Answer {i}"))
        })
    }

    /// A question and its answer, for `dspy.ChainOfThought("question -> answer")` and DSPy's `ChatAdapter`.
    pub(crate) fn answer(self, question: &str, answer: &str) -> Self {
        self.reply(question, &[("reasoning", "By heart."), ("answer", answer)])
    }

    /// A question and the output fields of its answer.
    pub(crate) fn reply(self, question: &str, fields: &[(&str, &str)]) -> Self {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| format!("[[ ## {name} ## ]]\n{value}")).collect();
        let content = format!("{}\n\n[[ ## completed ## ]]", fields.join("\n\n"));
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
        self.fixture(&asks(question), &json!({"content": content, "usage": usage}))
    }

    /// A question whose answer is this text, parsable or not.
    pub(crate) fn text(self, question: &str, content: &str) -> Self {
        self.fixture(&asks(question), &json!({"content": content}))
    }

    /// A question that fails once with the status (a 429 with Retry-After, in seconds); later fixtures answer it.
    pub(crate) fn fail_once(self, question: &str, status: u16, retry_after: u32) -> Self {
        let mut request = asks(question);
        request["sequenceIndex"] = json!(0);
        self.fixture(&request, &error(status, retry_after))
    }

    /// A question that always fails with the status.
    pub(crate) fn fail(self, question: &str, status: u16) -> Self {
        self.fixture(&asks(question), &error(status, 1))
    }

    /// A question whose answer takes 30 seconds.
    pub(crate) fn slow(mut self, question: &str) -> Self {
        let late = json!({"latencyMs": 30_000});
        self.0.push(json!({"match": asks(question), "response": {"content": "late"}, "chaos": late}));
        self
    }

    /// A match and a response, as in aimock's documentation.
    pub(crate) fn fixture(mut self, request: &Value, response: &Value) -> Self {
        self.0.push(json!({"match": request, "response": response}));
        self
    }
}

/// Matches a whole question. aimock looks for a substring, and `Question 11` contains `Question 1`.
fn asks(question: &str) -> Value {
    json!({"userMessage": format!("[[ ## question ## ]]\n{question}\n\n")})
}

fn error(status: u16, retry_after: u32) -> Value {
    json!({"error": {"message": format!("scripted {status}"), "type": "scripted"}, "status": status,
        "retryAfter": retry_after})
}

/// A running server; dropping it ends it.
pub(crate) struct Aimock {
    child: Child,
    address: String,
    _fixtures: tempfile::NamedTempFile,
}

impl Aimock {
    /// Starts the server on a free loopback port and waits until it listens.
    pub(crate) fn start(fixtures: &Fixtures) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(PROGRAM);
        assert!(program.exists(), "`{PROGRAM}` is missing: run `make test`");
        let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        file.write_all(json!({"fixtures": fixtures.0}).to_string().as_bytes()).unwrap();

        let mut child = Command::new("node")
            .arg(program)
            .args(["--port", "0", "--journal-max", "0", "--fixtures"])
            .arg(file.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("listening on http://")?.1.to_owned()));
        // What the server prints later must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("aimock ended before it listened"), _fixtures: file }
    }

    /// The URL for `--api-base`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Every request to a model so far, including failed ones, in order of arrival.
    pub(crate) fn journal(&self) -> Vec<Value> {
        serde_json::from_str(&self.call("GET", "/__aimock/journal", "")).unwrap()
    }

    /// The most requests that were in flight together, if each of them took `latency_ms`.
    pub(crate) fn most_at_once(&self, latency_ms: i64) -> usize {
        let mut ends: Vec<_> =
            self.journal().iter().map(|entry| entry["timestamp"].as_i64().unwrap()).collect();
        ends.sort_unstable();
        // Two requests whose ends are less than the latency apart were in flight together.
        let together =
            |first: usize| ends[first..].iter().take_while(|end| **end < ends[first] + latency_ms).count();
        (0..ends.len()).map(together).max().unwrap_or_default()
    }

    /// Injects faults from now on, for example `{"latencyMs": 500, "rateLimitRate": 0.1}`.
    pub(crate) fn chaos(&self, rates: &Value) {
        self.call("POST", "/__aimock/chaos", &rates.to_string());
    }

    fn call(&self, method: &str, path: &str, body: &str) -> String {
        let response = super::http::send(method, &format!("http://{}{path}", self.address), body);
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{method} {path}: {response}");
        body.to_owned()
    }
}

impl Drop for Aimock {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
