//! The serving end: loads what it is asked for, and makes the calls that it is sent.

use std::borrow::Cow;
use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::frame::{FrameSource, Transport, read};
use super::message::{FromWorker, Ready, ToWorker, VERSION, WireTyped};
use super::outbox::Outbox;
use super::serving::Calls;
use super::wire::{Bytes, Names};
use crate::bridge::Bridge;
use crate::input::TypedValue;

/// How often the health of the bridge is told.
const PULSE: Duration = Duration::from_millis(50);
/// How soon it is told that a call has begun.
const BEGUN: Duration = Duration::from_millis(5);

/// What was loaded.
pub struct Started {
    /// The bridge that makes the calls.
    pub bridge: Arc<dyn Bridge>,
    /// What else the other end is told.
    pub facts: Vec<u8>,
}

/// How the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The other end asked for it, and has been told.
    Closed,
    /// What was asked for could not be loaded, and the other end was told the reason.
    Refused,
    /// The other end is gone. Nobody waits for the calls that still run.
    Gone,
}

/// How the model is reached, or why there is none, as the other end answers.
type Models = Receiver<Result<Vec<u8>, String>>;

/// Asks the other end, and tells it what is printed. Its methods block the thread.
#[derive(Clone)]
pub struct Asking {
    outbox: Arc<Outbox>,
    model: Arc<Mutex<Models>>,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}

impl Asking {
    /// How the model is reached.
    ///
    /// # Errors
    ///
    /// Fails with the reason why there is none.
    pub fn model(&self) -> Result<Vec<u8>, String> {
        self.outbox.push(&FromWorker::ModelWanted);
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner).recv();
        model.unwrap_or_else(|_| Err("the connection has ended".to_owned()))
    }

    /// Has the other end show what was printed. Returns once it is on its way, so that it is seen even if the process
    /// dies at the next instruction, and holds back a predictor that prints faster than it can be shown.
    pub fn print(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let frame = self.outbox.push(&FromWorker::Printed(Bytes(Cow::Borrowed(bytes))));
        self.outbox.wait_sent(frame);
    }
}

/// Serves the other end until it asks to close or is gone. `start` loads what the other end asks for, and `end` ends
/// what was loaded, both on a thread that may block. What is printed until `end` returns is still shown.
pub async fn serve<S, E>(transport: impl Transport, start: S, end: E) -> Served
where
    S: FnOnce(&[u8], Asking) -> Result<Started, String> + Send + 'static,
    E: FnOnce() + Send + 'static,
{
    let (sink, source) = transport.split();
    let outbox = Arc::<Outbox>::default();
    let (loaded, starting) = mpsc::unbounded_channel();
    let (model, asked) = sync_channel(1);
    let asking = Asking { outbox: Arc::clone(&outbox), model: Arc::new(Mutex::new(asked)) };
    let server = Server {
        outbox: Arc::clone(&outbox),
        start: Some((start, asking)),
        loaded,
        model,
        names: Names::default(),
        calls: None,
        closing: None,
    };
    let sending = Arc::clone(&outbox);
    let sending = tokio::spawn(async move { sending.send_all(sink).await });
    let served = server.serve(source, starting, end).await;
    if served != Served::Gone {
        let _ = sending.await;
    }
    served
}

struct Server<S> {
    outbox: Arc<Outbox>,
    start: Option<(S, Asking)>,
    /// Takes what was loaded.
    loaded: mpsc::UnboundedSender<Result<Started, String>>,
    model: SyncSender<Result<Vec<u8>, String>>,
    names: Names,
    calls: Option<Arc<Calls>>,
    closing: Option<Duration>,
}

impl<S> Server<S>
where
    S: FnOnce(&[u8], Asking) -> Result<Started, String> + Send + 'static,
{
    async fn serve(
        mut self,
        mut source: impl FrameSource,
        mut starting: mpsc::UnboundedReceiver<Result<Started, String>>,
        end: impl FnOnce() + Send + 'static,
    ) -> Served {
        let mut pulse = Instant::now() + PULSE;
        let mut begun = pulse;
        let served = loop {
            tokio::select! {
                frame = source.next() => {
                    let Ok(Some(frame)) = frame else { break Served::Gone };
                    if let Err(error) = read(&frame, |message| self.take(message)) {
                        tracing::error!("failed to read a message: {error}");
                        break Served::Gone;
                    }
                    begun = begun.min(Instant::now() + BEGUN);
                }
                Some(loaded) = starting.recv() => match loaded {
                    Ok(Started { bridge, facts }) => self.ready(bridge, facts),
                    Err(reason) => {
                        let _ = tokio::task::spawn_blocking(end).await;
                        self.outbox.push(&FromWorker::Refused(reason));
                        break Served::Refused;
                    }
                },
                () = sleep_until(begun.min(pulse)), if self.calls.is_some() => {
                    if let Some(calls) = &self.calls {
                        let now = Instant::now();
                        if now >= pulse {
                            calls.pulse();
                            pulse = now + PULSE;
                        }
                        begun = if calls.tell_begun() { now + BEGUN } else { pulse };
                    }
                }
            }
            if let Some(within) = self.closing {
                let calls = self.calls.take();
                let _ = tokio::task::spawn_blocking(move || {
                    if let Some(calls) = calls {
                        calls.close(within);
                        calls.pulse();
                    }
                    end();
                })
                .await;
                self.outbox.push(&FromWorker::Bye);
                break Served::Closed;
            }
        };
        self.outbox.end();
        served
    }

    fn ready(&mut self, bridge: Arc<dyn Bridge>, facts: Vec<u8>) {
        let description = Box::new(bridge.describe().clone());
        let (typed, facts) = (bridge.types().is_some(), Bytes(Cow::Owned(facts)));
        self.outbox.push(&FromWorker::Ready(Ready { description, typed, facts }));
        self.calls = Some(Arc::new(Calls::new(bridge, Arc::clone(&self.outbox))));
    }

    fn take(&mut self, message: ToWorker<'_>) {
        match message {
            ToWorker::Call(call) => {
                if let Some(calls) = &self.calls {
                    calls.make(call, &mut self.names);
                }
            }
            ToWorker::Cancel(call) => {
                if let Some(calls) = &self.calls {
                    calls.cancel(call);
                }
            }
            ToWorker::Hello(version, load) => self.hello(&version, load.0.into_owned()),
            ToWorker::Model(model) => {
                let _ = self.model.try_send(model.map(|model| model.0.into_owned()));
            }
            ToWorker::Check(directory, values) => {
                let values: Vec<_> = values.into_iter().map(typed).collect();
                let (outbox, calls) = (Arc::clone(&self.outbox), self.calls.clone());
                tokio::task::spawn_blocking(move || {
                    let mut misfits = Vec::new();
                    let types = calls.as_ref().and_then(|calls| calls.bridge.types());
                    let checked = types.map_or(Ok(()), |types| {
                        types.check(&directory, &mut std::iter::once(values), &mut |misfit| {
                            misfits.push((misfit.line, misfit.parameter.to_string(), misfit.reason));
                            true
                        })
                    });
                    outbox.push(&FromWorker::Checked(checked.map(|()| misfits)));
                });
            }
            ToWorker::Close(within) => self.closing = Some(within),
        }
    }

    fn hello(&mut self, version: &str, load: Vec<u8>) {
        let loaded = self.loaded.clone();
        if version != VERSION {
            let reason = format!(
                "the worker is version {VERSION} of this program, and was asked by version {version}"
            );
            let _ = loaded.send(Err(reason));
        } else if let Some((start, asking)) = self.start.take() {
            tokio::task::spawn_blocking(move || loaded.send(start(&load, asking)));
        }
    }
}

fn typed(WireTyped(line, parameter, value): WireTyped<'_>) -> TypedValue {
    TypedValue { line, parameter: parameter.as_ref().into(), value: value.into_value() }
}
