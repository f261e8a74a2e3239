//! The calling end: a worker as a bridge of one lane.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::frame::{FrameSource, Transport, read};
use super::link::{Connection, Link, Settled};
use super::message::{FromWorker, Ready, ToWorker, VERSION, WireEnded, WireTyped};
use super::wire::{Bytes, Names, WireValue};
use crate::bridge::{Bridge, Call, Description, Health};
use crate::call::{Attempt, Lane};
use crate::error::{BridgeError, CallError};
use crate::input::{Misfit, TypedValue, Types};

/// How long a worker whose bridge is dropped may take to end its calls.
const DROPPED: Duration = Duration::from_secs(3);

/// Shows what was printed.
pub type Show = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Why values are not checked.
const GONE: &str = "the worker that checks them has ended";

/// What the calling end's owner does for the worker.
pub struct Host {
    /// How the model is reached, or why there is none. Asked at most once, on a thread that may block.
    pub model: Box<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>,
    /// Shows what Python printed there; nothing says that nothing follows. It holds up the connection, so it must not
    /// take long.
    pub printed: Show,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// Why a worker cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// It refused to load what it was asked for. The text holds the reason and the remedy.
    #[error("{0}")]
    Refused(String),
    /// The connection ended before the worker was ready.
    #[error("the worker ended before it was ready")]
    Gone,
}

/// A worker that is ready to be called. It ends by [`Bridge::close`], or unobserved once it is dropped.
#[derive(Debug)]
pub struct Remote {
    link: Arc<Link>,
    description: Description,
    typed: bool,
    facts: Vec<u8>,
}

impl Remote {
    /// Has the worker at the other end load what `load` says, and waits until it is ready. The connection is served on
    /// the present runtime, which must not be blocked, and replies are given on the runtime `home`.
    ///
    /// # Errors
    ///
    /// Fails if the worker refuses, or if it ends before.
    pub async fn connect(
        transport: impl Transport,
        load: &[u8],
        host: Host,
        home: &Handle,
    ) -> Result<Self, ConnectError> {
        let (sink, source) = transport.split();
        let (settled, inbox) = mpsc::unbounded_channel();
        home.spawn(settle(inbox));
        let link = Arc::new(Link::new(settled));
        let hello = ToWorker::Hello(VERSION.to_owned(), Bytes(Cow::Borrowed(load)));
        link.outbox.push(&hello);
        let sending = Arc::clone(&link);
        tokio::spawn(async move { sending.outbox.send_all(sink).await });
        let (sender, ready) = oneshot::channel();
        let receiver = Receiver {
            link: Arc::clone(&link),
            names: Names::default(),
            ready: Some(sender),
            host: host.into(),
        };
        tokio::spawn(receiver.receive_all(source));
        let (description, typed, facts) =
            ready.await.unwrap_or(Err(ConnectError::Gone)).inspect_err(|_| {
                link.outbox.end();
            })?;
        Ok(Self { link, description, typed, facts })
    }

    /// What else the worker told when it was ready.
    pub fn facts(&self) -> &[u8] {
        &self.facts
    }

    /// The rows whose calls have not ended in the worker, including those that nobody waits for any more.
    pub fn rows(&self) -> Vec<u64> {
        self.link.rows()
    }

    /// The number of those calls.
    pub fn calls(&self) -> usize {
        self.link.len()
    }

    /// Whether anybody waits for one of them.
    pub fn is_awaited(&self) -> bool {
        self.link.is_awaited()
    }

    /// The worker's event loop, as its pulses tell.
    pub fn lane(&self) -> Arc<dyn Lane> {
        Arc::clone(&self.link.lane) as Arc<dyn Lane>
    }

    /// The number of calls that have ended.
    pub fn ended(&self) -> u64 {
        self.link.ended_calls()
    }

    /// Resolves once the connection has ended. The worker may be alive all the same, and a process that it forked may
    /// keep the connection when it is dead.
    pub async fn disconnected(&self) {
        let mut connection = self.link.connection.subscribe();
        let _ = connection.wait_for(|connection| *connection != Connection::Open).await;
    }

    /// Whether it has not.
    pub fn is_connected(&self) -> bool {
        *self.link.connection.borrow() == Connection::Open
    }

    /// How long ago the worker has given a sign of life.
    pub fn silent_for(&self) -> Duration {
        self.link.lane.silent_for()
    }

    /// Forgets for how long the worker was silent, because this process did not run itself.
    pub fn excuse_silence(&self) {
        self.link.lane.excuse_silence();
    }

    /// Ends the calls that are open as `verdict` says of their row, and later ones as `after`. To be called only when
    /// the process at the other end, and whatever it has started, is known to be dead: nothing of the calls is left
    /// running then. `is_seen` says whether that was seen, or is only certain by now.
    pub fn lose(&self, after: CallError, is_seen: bool, verdict: impl FnMut(u64) -> CallError) {
        self.link.outbox.end();
        self.link.disconnect(Connection::Gone);
        self.link.end_calls(after, is_seen, verdict);
    }

    /// Asks the worker to cancel its calls and to end within this time.
    pub fn ask_to_close(&self, within: Duration) {
        self.link.outbox.push(&ToWorker::Close(within));
        self.link.outbox.end();
    }
}

impl Bridge for Remote {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn types(&self) -> Option<&dyn Types> {
        self.typed.then_some(self)
    }

    fn submit(&self, attempt: Attempt) -> Call {
        self.link.submit(attempt)
    }

    fn health(&self) -> Health {
        self.link.health()
    }

    fn close(&self, within: Duration) -> bool {
        self.ask_to_close(within);
        let ended = self.link.wait_ended(within);
        let stopped = || CallError::Bridge(BridgeError::LoopStopped);
        self.link.end_calls(stopped(), true, |_| stopped());
        ended
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.ask_to_close(DROPPED);
        let stopped = || CallError::Bridge(BridgeError::LoopStopped);
        self.link.end_calls(stopped(), true, |_| stopped());
    }
}

impl Types for Remote {
    fn check(
        &self,
        directory: &Path,
        batches: &mut (dyn Iterator<Item = Vec<TypedValue>> + Send),
        told: &mut dyn FnMut(Misfit) -> bool,
    ) -> Result<(), String> {
        for batch in batches {
            let (sender, checked) = sync_channel(1);
            *self.link.checking.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
            if *self.link.connection.borrow() != Connection::Open {
                return Err(GONE.to_owned());
            }
            let values = batch
                .iter()
                .map(|one| WireTyped(one.line, Cow::Borrowed(&*one.parameter), WireValue::of(&one.value)))
                .collect();
            self.link.outbox.push(&ToWorker::Check(directory.to_owned(), values));
            let misfits = checked.recv().map_err(|_| GONE.to_owned())??;
            for (line, parameter, reason) in misfits {
                let value = batch.iter().find(|one| one.line == line && *one.parameter == *parameter);
                let known = self.description.parameters.iter().find(|known| known.name == parameter);
                if let (Some(value), Some(kind)) = (value, known.and_then(|known| known.kind.clone()))
                    && !told(Misfit {
                        line,
                        parameter: Arc::clone(&value.parameter),
                        value: value.value.clone(),
                        kind,
                        reason,
                    })
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Gives the replies of a batch to their futures, on the runtime where those are, which is woken once for each batch.
async fn settle(mut inbox: mpsc::UnboundedReceiver<Settled>) {
    while let Some(batch) = inbox.recv().await {
        for (sender, reply) in batch {
            let _ = sender.send(reply);
        }
    }
}

type Loaded = Result<(Description, bool, Vec<u8>), ConnectError>;

/// Takes in what the worker says.
struct Receiver {
    link: Arc<Link>,
    names: Names,
    ready: Option<oneshot::Sender<Loaded>>,
    host: Arc<Host>,
}

impl Receiver {
    async fn receive_all(mut self, mut source: impl FrameSource) {
        while let Ok(Some(frame)) = source.next().await {
            let mut settled = Settled::new();
            let whole = read(&frame, |message| self.receive(message, &mut settled));
            self.link.settle(settled);
            if let Err(error) = whole {
                tracing::error!("failed to read what a worker said: {error}");
                break;
            }
        }
        (self.host.printed)(&[]);
        self.link.disconnect(Connection::Gone);
    }

    fn receive(&mut self, message: FromWorker<'_>, settled: &mut Settled) {
        match message {
            FromWorker::Ended(WireEnded(call, reply, marks, over)) => {
                let reply = reply.map(|reply| reply.into_reply(&mut self.names));
                settled.extend(self.link.ended(call, marks, over).zip(reply));
            }
            FromWorker::Begun(call, since) => self.link.begun(call, since),
            FromWorker::Pulse(health) => self.link.pulse(*health),
            FromWorker::Printed(bytes) => (self.host.printed)(&bytes.0),
            FromWorker::Checked(checked) => {
                let checking = self.link.checking.lock().unwrap_or_else(PoisonError::into_inner).take();
                let _ = checking.map(|checking| checking.send(checked));
            }
            FromWorker::ModelWanted => self.provide_model(),
            FromWorker::Ready(Ready { description, typed, facts }) => {
                self.loaded(Ok((*description, typed, facts.0.into_owned())));
            }
            FromWorker::Refused(reason) => self.loaded(Err(ConnectError::Refused(reason))),
            FromWorker::Bye => self.link.disconnect(Connection::Bye),
        }
    }

    fn loaded(&mut self, loaded: Loaded) {
        // The worker has just begun to turn.
        self.link.lane.excuse_silence();
        if let Some(ready) = self.ready.take() {
            // Fails if nobody waits any more.
            let _ = ready.send(loaded);
        }
    }

    fn provide_model(&self) {
        let (host, link) = (Arc::clone(&self.host), Arc::clone(&self.link));
        tokio::task::spawn_blocking(move || {
            let model = (host.model)();
            link.outbox.push(&ToWorker::Model(model.map(|model| Bytes(Cow::Owned(model)))));
        });
    }
}
