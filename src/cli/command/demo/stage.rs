//! What the examples need: the interpreter, the predictors that they ask, and the lines that they print.

use std::sync::Arc;
use std::time::{Duration, Instant};

use console::Style;
use tokio::time::timeout;

use crate::bridge::Bridge;
use crate::bridge::python::PythonBridge;
use crate::bridge::python::interpreter::Interpreter;
use crate::bridge::python::predictor::{LoadError, Request};
use crate::call::{Attempt, call_clock};
use crate::cli::command::show::ShowOptions;
use crate::cli::command::streams::Streams;
use crate::error::CallError;
use crate::job::JobError;
use crate::job::answerer::{Answerer, secrets};
use crate::job::spec::PredictorSpec;
use crate::job::starting::StartOptions;
use crate::outcome::Answer;
use crate::report::text::{Look, duration, escape, escape_lines};
use crate::row::Value;

/// The name under which Python knows `functions.py`.
pub(super) const FUNCTIONS: &str = "tokio_asyncio_bridge_demo";
/// Columns of the banner.
const BANNER: usize = 60;
/// The most calls at once.
const CALLS: usize = 5;
/// How long an event loop may take to end.
const SHUT_DOWN: Duration = Duration::from_secs(1);

/// The model, or a Python function.
#[derive(Clone)]
pub(super) struct Predictor {
    pub(super) bridge: Arc<dyn Bridge>,
    /// How many calls it runs at once; others wait in its queue.
    pub(super) calls: usize,
    /// How long to wait for an answer.
    patience: Duration,
}

impl Predictor {
    /// Asks a question and waits for its answer.
    pub(super) async fn ask(&self, text: &str) -> Result<Answer, CallError> {
        let call = self.bridge.submit(question(text));
        timeout(self.patience, call).await.unwrap_or(Err(CallError::Timeout(self.patience)))
    }
}

/// A call's argument, `question=text`. An engine would keep the other end of the clock, to measure the call.
pub(super) fn question(text: &str) -> Attempt {
    let (clock, _watch) = call_clock(Instant::now());
    let arguments = vec![("question".into(), Value::Text(text.to_owned()))];
    Attempt { row: 0, number: 1, arguments: Arc::new(arguments), clock }
}

/// The answer as one line: its field `answer`, or all fields where there is none.
fn text_of(answer: &Answer) -> String {
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        Value::Json(json) => json.get().to_owned(),
    };
    match answer.fields.iter().find(|(name, _)| &**name == "answer") {
        Some((_, value)) => text(value),
        None => answer.fields.iter().map(|(_, value)| text(value)).collect::<Vec<_>>().join(", "),
    }
}

/// Where the examples are run.
pub(super) struct Stage<'a> {
    spec: PredictorSpec,
    /// How long to wait for an answer of the model.
    patience: Duration,
    streams: &'a mut Streams,
    show: ShowOptions,
    look: Look,
    model: Option<Answerer>,
    bridges: Vec<Arc<dyn Bridge>>,
}

impl<'a> Stage<'a> {
    /// Starts the interpreter and gives it `functions.py`.
    pub(super) async fn new(
        spec: PredictorSpec,
        patience: Duration,
        streams: &'a mut Streams,
        show: ShowOptions,
    ) -> anyhow::Result<Self> {
        let python = spec.python.clone();
        let start = move || {
            let interpreter = Interpreter::find(python.as_deref())?;
            anyhow::Ok(interpreter.define(FUNCTIONS, include_str!("../../../../examples/functions.py"))?)
        };
        tokio::task::spawn_blocking(start).await.map_err(|error| JobError::panicked(&error))??;
        let look = streams.look(&show);
        Ok(Self { spec, patience, streams, show, look, model: None, bridges: Vec::new() })
    }

    /// `--predictor` on `--model`, which is started at its first use.
    pub(super) async fn model(&mut self) -> anyhow::Result<Predictor> {
        let model = if let Some(model) = self.model.take() {
            model
        } else {
            let spec = self.spec.clone();
            let start = move || Answerer::start(StartOptions::new(&spec, CALLS, &secrets(&spec)));
            let model =
                tokio::task::spawn_blocking(start).await.map_err(|error| JobError::panicked(&error))??;
            self.say(&format!("(asking {})", escape(&model.description)))?;
            model
        };
        let model = self.model.insert(model);
        let (bridge, calls) = (Arc::clone(&model.bridge), model.limit(CALLS));
        Ok(Predictor { bridge, calls, patience: self.patience })
    }

    /// One of the functions in `functions.py`.
    pub(super) fn function(&mut self, name: &str) -> Result<Predictor, LoadError> {
        let request = Request::of_spec(format!("{FUNCTIONS}:{name}"), CALLS);
        let bridge = PythonBridge::start(self.spec.event_loop.into(), request, secrets(&self.spec))?;
        let bridge: Arc<dyn Bridge> = Arc::new(bridge);
        self.bridges.push(Arc::clone(&bridge));
        Ok(Predictor { bridge, calls: CALLS, patience: Duration::MAX })
    }

    /// Ends the event loops and the model.
    pub(super) fn close(self) {
        for bridge in self.bridges {
            bridge.close(SHUT_DOWN);
        }
    }

    /// Prints a line.
    pub(super) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(self.streams.say(&self.show, &format!("{line}\n"))?)
    }

    /// Prints a title between two rules.
    pub(super) fn banner(&mut self, title: &str) -> anyhow::Result<()> {
        let rule = "=".repeat(BANNER.min(self.look.width));
        self.say(&format!("{rule}\n{title}\n{rule}"))
    }

    /// Prints a line with a check mark, and details below it.
    pub(super) fn show(&mut self, line: &str, details: &[(&str, String)]) -> anyhow::Result<()> {
        let mark = self.look.paint(Style::new().green(), "✓");
        self.say(&format!("{mark} {}", escape(line)))?;
        details.iter().try_for_each(|(name, value)| self.detail(name, value))
    }

    /// Prints a figure or a text below a line with a check mark.
    pub(super) fn detail(&mut self, name: &str, value: &str) -> anyhow::Result<()> {
        self.say(&format!("  {name}: {}", escape(value)))
    }

    /// Prints a question, its answer and the time it took.
    pub(super) fn answered(&mut self, asked: &str, answer: &Answer, took: Duration) -> anyhow::Result<()> {
        let details = [("Answer", text_of(answer)), ("Time", duration(took))];
        self.show(&format!("Question: {asked}"), &details)
    }

    /// Prints the error that ended an example.
    pub(super) fn failed(&mut self, error: &anyhow::Error) -> anyhow::Result<()> {
        let mark = self.look.paint(Style::new().red(), "✗");
        let hint = match error.downcast_ref() {
            Some(CallError::Timeout(_)) => "\nhint: is the model up? `--timeout` gives it longer",
            _ => "",
        };
        let text = escape_lines(&secrets(&self.spec).mask(&format!("{error}{hint}")));
        self.say(&format!("{mark} {}", text.replace('\n', "\n  ")))
    }
}
