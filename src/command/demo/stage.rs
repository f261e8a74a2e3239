//! What the examples stand on: the interpreter, the predictors they call, the lines they print. Nothing to learn here
//! but [`question`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use console::Style;

use super::DemoOptions;
use super::patient::Patient;
use crate::bridge::Bridge;
use crate::bridge::python::PythonBridge;
use crate::bridge::python::interpreter::{Interpreter, choose};
use crate::bridge::python::predictor::{LoadError, Model, ModelSettings, Request};
use crate::call::{Attempt, call_clock};
use crate::command::show::ShowOptions;
use crate::command::streams::Streams;
use crate::error::CallError;
use crate::job::JobError;
use crate::job::answerer::{Answerer, secrets};
use crate::outcome::Answer;
use crate::report::text::{Look, duration, escape, escape_lines};
use crate::row::Value;

/// The name under which Python knows `functions.py`.
pub(super) const FUNCTIONS: &str = "tokio_asyncio_bridge_demo";
/// Columns of the banner.
const BANNER: usize = 60;
/// Calls that are made at once at most.
const CALLS: usize = 5;
/// How long an event loop may take to end.
const SHUT_DOWN: Duration = Duration::from_secs(1);

/// One call's argument: `question=text`. An engine would keep the other end of the clock, to measure the call.
pub(super) fn question(text: &str) -> Attempt {
    let (clock, _watch) = call_clock(Instant::now());
    let arguments = vec![("question".into(), Value::Text(text.to_owned()))];
    Attempt { row: 0, number: 1, arguments: Arc::new(arguments), clock }
}

/// An answer as one line: the field `answer`, or all fields where there is none.
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
    options: &'a DemoOptions,
    streams: &'a mut Streams,
    look: Look,
    interpreter: Interpreter,
    model: Option<Answerer>,
    bridges: Vec<Arc<dyn Bridge>>,
}

impl<'a> Stage<'a> {
    /// Starts the interpreter and gives it `functions.py`.
    pub(super) async fn new(options: &'a DemoOptions, streams: &'a mut Streams) -> anyhow::Result<Self> {
        let python = choose(options.predictor.python.as_deref());
        let start = move || {
            let interpreter = Interpreter::start(&python)?;
            interpreter.define(FUNCTIONS, include_str!("functions.py"))?;
            anyhow::Ok(interpreter)
        };
        let interpreter =
            tokio::task::spawn_blocking(start).await.map_err(|error| JobError::panicked(&error))??;
        let look = streams.look(&options.show);
        Ok(Self { options, streams, look, interpreter, model: None, bridges: Vec::new() })
    }

    /// The bridge to the model: `--predictor` on `--model`, which is started at its first use, asked within `--timeout`.
    pub(super) async fn model(&mut self) -> anyhow::Result<Arc<dyn Bridge>> {
        if self.model.is_none() {
            let options = self.options.predictor();
            let start = move || Answerer::start(&options, CALLS, false, &secrets(&options), None);
            let started =
                tokio::task::spawn_blocking(start).await.map_err(|error| JobError::panicked(&error))??;
            self.say(&format!("(asking {})", escape(&started.description)))?;
            self.model = Some(started);
        }
        let model = self.model.as_ref().context("the model was just started")?;
        Ok(Arc::new(Patient { bridge: Arc::clone(&model.bridge), patience: self.options.timeout }))
    }

    /// How many calls the model runs at once; others wait in its queue.
    pub(super) fn at_once(&self) -> usize {
        self.model.as_ref().map_or(CALLS, |model| model.limit(CALLS))
    }

    /// A bridge to one of the functions in `functions.py`.
    pub(super) fn function(&mut self, name: &str) -> Result<Arc<dyn Bridge>, LoadError> {
        let request = Request {
            spec: format!("{FUNCTIONS}:{name}"),
            signature: String::new(),
            program: None,
            calls: CALLS,
            // Asked for by DSPy programs only.
            model: Model {
                explicit: false,
                is_local: false,
                provider: Box::new(|| Ok(ModelSettings::default())),
            },
        };
        let options = self.options.predictor();
        let bridge: Arc<dyn Bridge> =
            Arc::new(PythonBridge::start(options.event_loop.into(), request, secrets(&options))?);
        self.bridges.push(Arc::clone(&bridge));
        Ok(bridge)
    }

    /// Ends the event loops, the model and Python.
    pub(super) fn close(self) {
        for bridge in self.bridges {
            bridge.close(SHUT_DOWN);
        }
        match self.model {
            Some(model) => drop(model),
            None => drop(self.interpreter.run_exit_functions(SHUT_DOWN)),
        }
    }

    fn show(&self) -> &ShowOptions {
        &self.options.show
    }

    /// A line.
    pub(super) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let show = self.show().clone();
        Ok(self.streams.say(&show, &format!("{line}\n"))?)
    }

    /// A title between two rules.
    pub(super) fn banner(&mut self, title: &str) -> anyhow::Result<()> {
        let rule = "=".repeat(BANNER.min(self.look.width));
        self.say(&format!("{rule}\n{title}\n{rule}"))
    }

    /// A line with a check mark.
    pub(super) fn done(&mut self, line: &str) -> anyhow::Result<()> {
        let mark = self.look.paint(Style::new().green(), "✓");
        self.say(&format!("{mark} {}", escape(line)))
    }

    /// What ended an example.
    pub(super) fn failed(&mut self, error: &anyhow::Error) -> anyhow::Result<()> {
        let mark = self.look.paint(Style::new().red(), "✗");
        let hint = match error.downcast_ref() {
            Some(CallError::Timeout(_)) => "\nhint: is the model up? `--timeout` gives it longer",
            _ => "",
        };
        let text = escape_lines(&secrets(&self.options.predictor()).mask(&format!("{error:#}{hint}")));
        self.say(&format!("{mark} {}", text.replace('\n', "\n  ")))
    }

    /// A question, its answer and the time it took.
    pub(super) fn answered(&mut self, asked: &str, answer: &Answer, took: Duration) -> anyhow::Result<()> {
        self.done(&format!("Question: {asked}"))?;
        self.detail("Answer", &text_of(answer))?;
        self.detail("Time", &duration(took))
    }

    /// A figure or a text below a check mark.
    pub(super) fn detail(&mut self, name: &str, value: &str) -> anyhow::Result<()> {
        self.say(&format!("  {name}: {}", escape(value)))
    }
}
