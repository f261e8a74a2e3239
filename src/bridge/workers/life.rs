//! What a worker lives in, whatever that is: how it is started and ended, and how its death is known.

use std::fmt::Debug;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tokio::sync::watch;

use super::death::Death;

/// The name of the machine that a worker runs on, once it is known; nothing where that is this one.
pub type Node = Arc<OnceLock<String>>;

/// A kind of workers.
pub(super) trait Kind: Send + Sync {
    /// Starts a worker.
    ///
    /// # Errors
    ///
    /// Fails if there can be none now.
    fn start(&self) -> Starting<'_>;

    /// How long workers that nobody can tell of any more may go on.
    fn left_behind(&self) -> Duration {
        Duration::ZERO
    }

    /// Ends what the workers of this kind share, once they have ended. Blocks until the time has come at the latest, and
    /// returns whether all has ended.
    fn close(&self, until: Instant) -> bool {
        let _ = until;
        true
    }
}

/// A worker that is being started.
pub(super) type Starting<'a> = Pin<Box<dyn Future<Output = io::Result<Started>> + Send + 'a>>;

/// A worker that has just been started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) life: Arc<dyn Life>,
    /// The other end of its connection.
    pub(super) socket: UnixStream,
    pub(super) died: Died,
    pub(super) node: Node,
}

/// What a worker lives in. Dropping this kills it and all that it has started itself.
pub(super) trait Life: Debug + Send + Sync {
    /// Kills it and all that it has started itself, without waiting for its end.
    fn kill(&self);

    /// The number of its process, if that runs on this machine.
    fn pid(&self) -> Option<Pid>;

    /// Waits until its end is known, or the time has come. Returns whether it is. Blocks.
    fn await_end(&self, until: Instant) -> bool;

    /// Keeps later workers from where this one could not load what another one did.
    fn is_refused(&self) {}
}

/// How a worker died, once that is known.
#[derive(Debug, Clone)]
pub(super) struct Died(pub(super) watch::Receiver<Option<Death>>);

impl Died {
    /// Waits until its end is known. Cancel-safe, and may be asked again.
    pub(super) async fn wait(&mut self) -> Death {
        let died = self.0.wait_for(Option::is_some).await;
        died.ok().and_then(|died| died.clone()).unwrap_or(Death::Unknown)
    }
}
