//! A job on a thread of its own, which others wait for, stop, and take the result of.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::error::{ErrorKind, JobError};
use crate::bridge::python::interpreter::InterpreterError;
use crate::observe::{Level, Observer, Snapshot};
use crate::policy::stop::Signal;
use crate::run::control::Control;

/// How long what a stopped job was doing, such as loading its predictor, may take to end.
const CLEARING: Duration = Duration::from_secs(30);
/// How often it is looked whether the job is to end at once meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// A job that runs on a thread of its own, and its result. If this is dropped before the job's end, the job is ended at
/// once.
///
/// A process that was forked meanwhile has neither the job's thread nor what that thread locked, so no lock is taken
/// there. To it the job has ended and has told nothing, and its result is an error.
pub struct Background<T> {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<Result<T, JobError>>>>,
    /// The process that the thread is in.
    process: u32,
}

#[derive(Default)]
struct Shared {
    control: Control,
    told: Mutex<Told>,
    ended: Condvar,
}

/// What the job has told so far.
#[derive(Default)]
struct Told {
    messages: Vec<(Level, String)>,
    snapshot: Option<Snapshot>,
    has_ended: bool,
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing of the job runs any more, so that nothing of it is left in the process. A job that is to end
    /// at once leaves it behind.
    fn clear(&self, runtime: Runtime, within: Duration) {
        let (clearing, cleared) = channel::<()>();
        let clear = move || {
            runtime.shutdown_timeout(within);
            drop(clearing);
        };
        if Builder::new().name("tab-clear".to_owned()).spawn(clear).is_err() {
            return;
        }
        let mut told = false;
        while cleared.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) && !self.control.is_killed() {
            if !told {
                let text = "stopping: waiting for what was being loaded or read (Ctrl-C again to stop now)";
                self.told().messages.push((Level::Warning, text.to_owned()));
            }
            told = true;
        }
    }
}

/// Takes down what the job tells. Clones write to the same place.
#[derive(Clone, Default)]
pub struct Watch(Arc<Shared>);

impl Observer for Watch {
    fn tick(&mut self, snapshot: &Snapshot) {
        self.0.told().snapshot = Some(*snapshot);
    }

    fn message(&mut self, level: Level, text: &str) {
        self.0.told().messages.push((level, text.to_owned()));
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        self.tick(snapshot);
    }
}

/// Tells the end of the job when dropped, also if its thread panics.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.told().has_ended = true;
        self.0.ended.notify_all();
    }
}

impl<T: Send + 'static> Background<T> {
    /// Starts `work` on a new thread, with a Tokio runtime of its own, an observer and a control. The job has ended when
    /// nothing of it runs any more, or after 30 seconds.
    ///
    /// # Errors
    ///
    /// Fails if there can be no further thread.
    pub fn start(
        work: impl FnOnce(&Runtime, &mut Watch, &Control) -> Result<T, JobError> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let ends = Ends(Arc::clone(&shared));
        // One thread is enough: the event loop has its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = Builder::new().name("tab-run".to_owned()).spawn(move || {
            let shared = &ends.0;
            let result = work(&runtime, &mut Watch(Arc::clone(shared)), &shared.control);
            shared.clear(runtime, CLEARING);
            result
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), process: std::process::id() })
    }

    /// Takes the result. Waits for the end.
    ///
    /// # Errors
    ///
    /// Fails with the job's error, or if its thread panicked, this process was forked, or the result was taken before.
    pub fn result(&self) -> Result<T, JobError> {
        self.refuse_forked()?;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let panicked =
            || JobError::new(ErrorKind::Internal, "internal error: the thread of the run panicked");
        thread.and_then(|thread| thread.join().ok()).ok_or_else(panicked)?
    }
}

impl<T> Background<T> {
    /// Waits for the end, at most so long, and returns whether the job has ended.
    pub fn wait(&self, within: Duration) -> bool {
        if self.is_forked() {
            return true;
        }
        let waited = self.shared.ended.wait_timeout_while(self.shared.told(), within, |told| !told.has_ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.has_ended
    }

    /// Asks the job to stop, as the first Ctrl-C at a terminal does.
    pub fn stop(&self) {
        if !self.is_forked() {
            self.shared.control.stop(Signal::Interrupt);
        }
    }

    /// Asks the job to end at once.
    pub fn kill(&self) {
        if !self.is_forked() {
            self.shared.control.kill(Signal::Interrupt);
        }
    }

    /// How the job stands; `None` before its first call.
    pub fn standing(&self) -> Option<Snapshot> {
        if self.is_forked() { None } else { self.shared.told().snapshot }
    }

    /// Takes the messages that came since the last time.
    pub fn messages(&self) -> Vec<(Level, String)> {
        if self.is_forked() { Vec::new() } else { std::mem::take(&mut self.shared.told().messages) }
    }

    /// Whether this is a process that was forked meanwhile.
    pub fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Refuses what only the job's own process can do.
    ///
    /// # Errors
    ///
    /// Fails in a process that was forked meanwhile.
    pub fn refuse_forked(&self) -> Result<(), JobError> {
        let forked = || JobError::new(ErrorKind::Predictor, InterpreterError::Forked.to_string());
        if self.is_forked() { Err(forked()) } else { Ok(()) }
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        if !self.wait(Duration::ZERO) {
            self.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Longer than any test waits in vain.
    const LONG: Duration = Duration::from_secs(60);

    /// A job that ends at its second request, and returns how many it took.
    fn obedient() -> Background<usize> {
        let obey = |runtime: &Runtime, watch: &mut Watch, control: &Control| {
            watch.message(Level::Note, "begun");
            runtime.block_on(async {
                control.next().await;
                watch.message(Level::Note, "stopping");
                control.next().await;
            });
            Ok(control.taken())
        };
        Background::start(obey).unwrap()
    }

    fn texts<T>(job: &Background<T>) -> Vec<String> {
        job.messages().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn a_job_is_waited_for_and_its_result_is_taken_once() {
        let job = Background::start(|_, watch, _| {
            watch.message(Level::Warning, "slow");
            watch.tick(&Snapshot { ok: 1, ..Snapshot::default() });
            watch.finish(&Snapshot { ok: 2, ..Snapshot::default() });
            Ok(7)
        });
        let job = job.unwrap();
        assert!(job.wait(LONG));
        assert_eq!(job.messages(), [(Level::Warning, "slow".to_owned())]);
        assert_eq!((job.messages().len(), job.standing().map(|standing| standing.ok)), (0, Some(2)));
        assert_eq!((job.result().unwrap(), job.result().unwrap_err().kind()), (7, ErrorKind::Internal));
    }

    #[test]
    fn a_job_is_stopped_and_then_killed() {
        let job = obedient();
        assert!(!job.wait(Duration::from_millis(1)));
        job.stop();
        while !texts(&job).contains(&"stopping".to_owned()) {
            assert!(!job.wait(Duration::from_millis(1)));
        }
        job.kill();
        assert_eq!((job.wait(LONG), job.result().unwrap()), (true, 2));
        let job = obedient();
        job.kill();
        assert_eq!((job.wait(LONG), job.result().unwrap()), (true, 2));
    }

    #[test]
    fn a_job_that_nobody_holds_any_more_is_killed() {
        let (ending, ended) = channel();
        let job = Background::start(move |runtime, _, control| {
            runtime.block_on(async { (control.next().await, control.next().await) });
            ending.send(control.taken()).unwrap();
            Ok(())
        });
        drop(job.unwrap());
        assert_eq!(ended.recv_timeout(LONG), Ok(2));
    }

    #[test]
    fn a_job_that_fails_or_panics_has_an_error_and_no_result() {
        let failed: Background<()> =
            Background::start(|_, _, _| Err(JobError::stopped(Signal::Hangup))).unwrap();
        assert_eq!(failed.result().unwrap_err().kind(), ErrorKind::Stopped(Signal::Hangup));
        let panicked: Background<()> = Background::start(|_, _, _| panic!("a test's")).unwrap();
        assert!(panicked.wait(LONG));
        assert_eq!(panicked.result().unwrap_err().kind(), ErrorKind::Internal);
    }

    /// A runtime with something that goes on until the sender is dropped.
    fn busy() -> (Runtime, std::sync::mpsc::Sender<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (holds, held) = channel::<()>();
        runtime.spawn_blocking(move || held.recv());
        (runtime, holds)
    }

    #[test]
    fn what_a_job_leaves_behind_is_waited_for_within_a_bound_unless_the_job_is_killed() {
        let began = Instant::now();
        let shared = Shared::default();
        let (runtime, _holds) = busy();
        shared.clear(runtime, 10 * LOOK);
        assert!(began.elapsed() >= 10 * LOOK && shared.told().messages.len() == 1);
        let (runtime, holds) = busy();
        std::thread::spawn(move || {
            std::thread::sleep(2 * LOOK);
            drop(holds);
        });
        shared.clear(runtime, LONG);
        let (runtime, _holds) = busy();
        shared.control.kill(Signal::Interrupt);
        shared.clear(runtime, LONG);
        assert!(began.elapsed() < LONG);
    }

    #[test]
    fn in_a_forked_process_the_job_has_ended_and_told_nothing() {
        let mut job = obedient();
        let shared = Arc::clone(&job.shared);
        let locked = shared.told();
        let process = std::mem::replace(&mut job.process, 0);
        assert!(job.is_forked() && job.wait(LONG) && job.messages().is_empty() && job.standing().is_none());
        job.stop();
        job.kill();
        let error = job.result().unwrap_err();
        assert!(error.to_string().contains("was forked") && error.kind() == ErrorKind::Predictor);
        drop(locked);
        job.process = process;
        assert!(!job.wait(Duration::ZERO) && job.shared.control.asked().is_none());
    }
}
