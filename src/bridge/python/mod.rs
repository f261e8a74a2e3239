//! The production bridge: calls go to the event loop's thread in batches, and results come back in batches.
//!
//! # The way of a call
//!
//! 1. A Tokio task queues the call in Rust (`queue`) and wakes the loop through an `eventfd`, unless a wake is pending.
//!    No Tokio thread ever attaches to the interpreter: each attach would make and destroy a thread state and contend
//!    for the interpreter's lock (13 futex calls a row in [`super::into_future`]; here 100,000 rows make 34, and 3,900
//!    writes to wake the other thread, with 100 in flight).
//! 2. On the loop's thread a pool of long-lived tasks fetches all calls that wait, under one lock (`pool`). A worker
//!    makes the arguments, calls the predictor by name without building a dictionary, and steps the coroutine itself,
//!    in a fresh copy of the context in which the predictor was loaded (`worker`, `step`). So calls see nothing of each
//!    other, and `asyncio.timeout`, `current_task` and cancellation work inside as in any task.
//! 3. The worker converts the result and puts it into a batch, which goes to Tokio when it is full or the loop's turn
//!    ends. One Tokio task settles the futures of a batch. The worker takes its next call in the same turn. When the
//!    loop looks at the calls that wait, it leaves as many to such workers as they took since the last look. For each
//!    of the others it wakes or makes a worker.
//! 4. A dropped future cancels its call: the queue passes the request on to the task that runs the call. A worker whose
//!    task was ever asked to cancel is not used again.
//!
//! # Several jobs in one process
//!
//! A process has one interpreter, and each job has a bridge with an event loop on a thread of its own. These are
//! shared:
//!
//! - The interpreter ends with the process: [`interpreter::Interpreter::run_exit_functions`] does nothing while a
//!   bridge is in use. It starts once, as one executable: a job that asks for another one is refused.
//! - What is printed passes `printed`, where the secrets of all bridges that are alive are masked.
//! - Directories on `sys.path`, modules and DSPy's settings (`brought`): a job takes out at its end what it brought in,
//!   and jobs are loaded one after the other. A job is refused if it would import another job's module in place of its
//!   own.
//! - One job's loop runs on Python's main thread (`main_thread`), where signal handlers work.
//! - The hooks of a fork are registered once, over lists of what is alive (`forks`).
//! - Loggers: [`interpreter::Interpreter::hush`] holds for all jobs.
//!
//! # In somebody else's process
//!
//! An interpreter that runs before the first job is another program's, unless it was adopted ([`interpreter::adopt`]).
//! Its process is as it was found when no job is left:
//!
//! - Every loop has a thread of its own, which ends with the loop. Python's main thread, its signal handlers, its exit
//!   functions and descriptor 1 are not touched.
//! - What a job needs changed in the process or in other people's modules is put back with the last job (`touched`),
//!   the variables of an env file with their own job (`variables`). Meanwhile there is a veil over both streams
//!   (`printed`).
//! - DSPy's settings are put back as soon as the job is loaded. Its calls have a copy in their context.
//! - A child that the other program forks may run jobs, unless one was running when it was forked (`forked`).
//! - Two hooks stay: that of forks, and an exit function that has all jobs end before Python does.
//!
//! # The files
//!
//! | file | what |
//! | --- | --- |
//! | **Start and end** | |
//! | `which.rs` | which Python the program takes, and whether it fits the linked libpython |
//! | `interpreter.rs` | starts the one embedded interpreter |
//! | `raw.rs` | starts `CPython` with a configuration of its own; the unsafe code of that |
//! | `exit.rs` | runs Python's exit functions, once, when no job is left |
//! | `guest.rs` | whether another program runs the interpreter |
//! | `touched.py` | what jobs change in the process, put back when no job is left |
//! | `variables.py` | the variables of a job's env file |
//! | `main_thread.rs` | lends Python the process's first thread, where signal handlers run |
//! | `latch.rs` | something that happens once, and is waited for in bounded time |
//! | `event_loop.rs` | an asyncio loop on its thread: started, watched, ended in bounded time |
//! | `host.py` | what runs on the loop's thread around the calls: the loop, its threads, its end |
//! | `helpers.rs` | the Python files of this folder, as the package `_tokio_asyncio_bridge` |
//! | **The predictor** | |
//! | `predictor.rs` | the predictor: how it is called and what it takes |
//! | `load.rs` | what a bridge is loaded from, as data that another process can be given |
//! | `object.rs`, `objects.py` | one that is an object of this process: its name, and the context of its calls |
//! | `parcel.rs`, `parcel.py` | one that is packed for another process, with what surrounds it here |
//! | `loader.py` | finds and imports what a SPEC names, and tells how it wants to be called |
//! | `brought.py` | what a job has brought into the interpreter, taken out at its end |
//! | `dspy_predictor.py` | DSPy modules as predictors: their model, saved programs, a meter around each call |
//! | `dspy_meter.py` | what one call of a DSPy predictor uses: tokens, requests, cost |
//! | `dspy_local.py` | DSPy's settings, examples and grammar for the local model |
//! | `dspy_engine.py` | DSPy's HTTP engine with as many connections as calls |
//! | `dspy_untuned.py` | in its place for a release of DSPy that it does not fit |
//! | `dspy_provider.py` | refuses a model that no provider serves |
//! | `dspy_replies.py` | refusals, empty and cut replies that DSPy takes for answers |
//! | `prompt.rs` | its prompts and source files, masked and hashed, so that a change is noticed |
//! | `dspy_prompt.py` | signatures, instructions and demos of a DSPy module, as text |
//! | `sources.py` | the source files that it was loaded from, and its own code |
//! | `metered.rs`, `metered.py` | what is known of the requests a call makes before it is made: model, price, prompts |
//! | `types.rs`, `typed.py` | the types of parameters, by pydantic's rules |
//! | `layers.py` | retries, caches and limits between the predictor and the model |
//! | `reachable.py` | lists what the predictor's code can reach by name, without running it |
//! | `surroundings.py` | keys that no request can carry, proxies where nobody listens |
//! | `warm.py` | has LiteLLM imported before the first call |
//! | **A call** | |
//! | `mod.rs` | [`PythonBridge`]: the bridge as the engine sees it |
//! | `queue.rs` | calls one way, results the other, between Tokio and the loop |
//! | `pool.rs` | what the workers share: the queue, the predictor, who is idle |
//! | `worker.rs` | long-lived tasks that run one call after another, and how they are woken |
//! | `step.rs` | one step of a coroutine in a context of its own; the unsafe code |
//! | `running.rs` | one call on the loop: begun, marked, ended |
//! | `keywords.rs` | its keyword arguments as Python values |
//! | `threads.py` | plain functions on threads, as many as calls at once |
//! | `streams.py` | async generators: chunks become one answer |
//! | `exchange.rs` | rows and answers that stay Python objects, where no journal is kept |
//! | `binding.rs` | such rows become arguments |
//! | `crossing.rs` | such rows and answers as values, where other processes make the calls |
//! | `garbage.rs` | pauses Python's garbage collector while outcomes are made |
//! | `interruptible.rs` | long work of a caller, during which signals are looked for |
//! | `convert.rs` | Python values become answers and errors |
//! | `results.py` | what was returned, as columns |
//! | `failure.py` | the kind of a failure, from what the exception carries |
//! | `reply.py` | what a server said of a failed request: status, waits, request id |
//! | `traces.py` | tracebacks with the user's own lines |
//! | **Watching** | |
//! | `pulse.rs` | for how long the loop did not turn |
//! | `watchdog.rs` | whose call holds it up, and where |
//! | `signals.py` | keeps SIGINT, SIGTERM and SIGHUP for the run |
//! | `forked.rs`, `forks.py` | a forked child runs the predictor's code alone |
//! | `printed.rs`, `printed.py` | what Python prints, with secrets masked |
//!
//! # What it costs
//!
//! Microseconds a call on 2 cores, CPython 3.11, `sleep(0)` in the predictor, timeouts on; in brackets the ratio to the
//! floor, which is asyncio's own worker tasks without any timeout. `cargo bench --bench bridge -- sleep_zero`:
//!
//! | in flight, loop | floor | floor + `asyncio.timeout` | Semaphore script | `into_future` | this |
//! | --- | --- | --- | --- | --- | --- |
//! | 100, asyncio | 1.51 | 6.24 (4.1) | 11.6 (7.7) | 37.4 (25) | 2.17 (1.4) |
//! | 100, uvloop | 0.91 | 4.89 (5.4) | 7.88 (8.7) | 28.7 (32) | 1.51 (1.7) |
//! | 1,000, asyncio | 1.75 | 7.30 (4.2) | 11.4 (6.5) | 36.7 (21) | 2.20 (1.3) |
//! | 1,000, uvloop | 1.10 | 5.63 (5.1) | 9.20 (8.4) | 31.5 (29) | 1.45 (1.3) |
//!
//! Processor time, both threads: 2.8, 2.2, 2.5 and 2.0 (1.9, 2.4, 1.5 and 1.8 floors). `into_future` wakes the other
//! thread several times a call, which cost it 11 to 40 from one day to another on this machine, a virtual one.
//!
//! A predictor that never suspends costs 0.6 here and 0.2 to 0.4 at the floor, where a call is no more than a Python
//! function call. One call at a time costs 48 to 59, nearly all of it two threads that wake each other. A call in
//! flight holds 2.6 kB, an asyncio task with a timeout 2.3 kB (`cargo bench --bench memory`).
//!
//! # The whole program
//!
//! 200,000 rows of CSV to JSONL, 100 in flight, from the start of the process to its end, microseconds a row against
//! the faster of two hand-written scripts (`benches/script.py`: workers or a semaphore; timeout, retries, a line
//! flushed an answer). `cargo bench --bench pipeline`:
//!
//! | loop, predictor | script | this program |
//! | --- | --- | --- |
//! | asyncio, at once | 13.2 | 5.5 (2.4 times as fast) |
//! | asyncio, `sleep(0)` | 15.2 | 5.7 (2.7) |
//! | uvloop, at once | 15.0 | 5.7 (2.6) |
//! | uvloop, `sleep(0)` | 12.6 | 5.6 (2.3) |
//!
//! Of that, six parts in ten are the run, two the writing of the answers on both cores, two starting and reading the
//! input once before the first call. The script neither checks its input, nor syncs what it writes, nor writes answers
//! in order.
//!
//! # Rows in memory
//!
//! `map` and `stream` of the Python package keep no journal, and rows and answers stay the objects that they are
//! (`exchange`). The run knows a row by its number: rows are handed in, and outcomes taken out, by the thousand under
//! one hold of the interpreter's lock, and no object passes through Tokio. 200,000 rows, 100 in flight, from the call
//! to the list of typed outcomes, microseconds a row; in brackets how many times as fast as a hand-written script of
//! worker tasks with `asyncio.timeout` and retries. `benches/seam.py`, medians of 3:
//!
//! | loop, predictor | script | `map` | `stream` |
//! | --- | --- | --- | --- |
//! | asyncio, at once | 8.2 | 2.9 (2.8) | 3.2 (2.5) |
//! | asyncio, `sleep(0)` | 9.1 | 4.2 (2.2) | 4.1 (2.2) |
//! | uvloop, at once | 7.5 | 2.8 (2.7) | 2.9 (2.6) |
//! | uvloop, `sleep(0)` | 7.1 | 3.3 (2.1) | 4.3 (1.6) |
//!
//! Beside them, asyncio's worker tasks without timeout, retries and outcomes take 0.2 to 0.4 at once and 1.3 to 1.7
//! with `sleep(0)`; async-batch-llm takes 430 to 620 (5,000 rows), and `dspy.Parallel` 380 to 490 (2,000 rows).
//! `process` from Python takes 0.95 of the time of the stand-alone program, each as a whole process. Starting and
//! ending a session takes 10 ms of the time of `map`.
//!
//! # What was tried
//!
//! - Outcomes made while Python's garbage collector runs: a fifth of the time that the caller's thread takes. It is
//!   paused while a batch is made, for it would look through all outcomes again and again.
//! - Outcomes taken every 50 ms in place of every 10: up to an eighth slower, for what they are made of has left the
//!   cache by then. Rows handed in by 2,000 or 64,000 in place of 8,192: within the noise, or slower.
//! - A task a call, over the same queue: half as fast again (3.8 for 2.5 at the time). Hence the pool.
//! - Batches of 16 to 512 results: with 100 calls in flight 32 to 48 are best, where the wakes of Tokio no longer weigh
//!   and the loop does not yet wait; with 1,000, all from 96 on (0.85 of the time that 32 take). Hence half the calls
//!   in flight.
//! - A worker for every call that waits: one in five found that another had taken it, and went to wait again.
//! - A worker that stays for one turn before it waits, answers made on Tokio's side, the memory of a batch touched
//!   ahead: 0 to 3 % each.
//! - A future a call was kept: it costs less than the second core has to spare.
//! - Tokio on one thread: with one or two workers the same run takes 1.1 to 1.3 times as long.

mod binding;
pub(super) mod convert;
pub mod crossing;
pub mod event_loop;
pub mod exchange;
mod exit;
mod forked;
pub mod garbage;
mod guest;
pub(super) mod helpers;
pub mod interpreter;
pub mod interruptible;
mod keywords;
mod latch;
pub mod load;
pub mod main_thread;
mod metered;
mod object;
pub mod parcel;
mod pool;
pub mod predictor;
mod printed;
mod prompt;
pub mod pulse;
mod queue;
mod raw;
mod running;
mod step;
pub(crate) mod types;
mod watchdog;
pub mod which;
mod worker;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use self::convert::NulledCount;
use self::event_loop::{EventLoop, LoopKind};
use self::predictor::{LoadError, Predictor, Request};
use self::pulse::Pulse;
use self::queue::{Job, Queue, Settled};
use self::types::ParameterTypes;
use super::{Bridge, Call, CancelCall, Description, Health};
use crate::call::{Attempt, Lane};
use crate::error::BridgeError;
use crate::input::Types;
use crate::secret::Secrets;

/// The production bridge. It ends by [`Bridge::close`], or unobserved once it is dropped.
#[derive(Debug)]
pub struct PythonBridge {
    queue: Arc<Queue>,
    event_loop: EventLoop,
    description: Description,
    types: Arc<ParameterTypes>,
    nulled: Arc<NulledCount>,
}

impl PythonBridge {
    /// Starts an event loop and loads the predictor on its thread. The interpreter must be running.
    ///
    /// Call it within a Tokio runtime, to which the results are handed. Blocks until the predictor is loaded.
    ///
    /// # Errors
    ///
    /// Fails if the event loop cannot be made or the predictor cannot be loaded, with the reason that Python gave.
    pub fn start(kind: LoopKind, request: Request, secrets: Secrets) -> Result<Self, LoadError> {
        let (results, inbox) = mpsc::unbounded_channel();
        let queue =
            Queue::new(results).map_err(|error| LoadError(format!("failed to make an eventfd: {error}")))?;
        let queue = Arc::new(queue);
        let loop_queue = Arc::clone(&queue);
        let mask = secrets.clone();
        let nulled = Arc::<NulledCount>::default();
        let counted = Arc::clone(&nulled);
        let set_up = move |event_loop: &pyo3::Bound<'_, pyo3::PyAny>, pulse: &Arc<Pulse>| {
            let mut secrets = secrets;
            let predictor = Predictor::load(event_loop, request, &mut secrets)?;
            let (description, types) = (predictor.description.clone(), Arc::clone(&predictor.types));
            worker::start(event_loop, loop_queue, predictor, secrets, Arc::clone(pulse), counted)?;
            Ok((description, types))
        };
        let (event_loop, (mut description, types)) =
            EventLoop::start(kind, mask.clone(), set_up).map_err(|error| LoadError::of(&error, &mask))?;
        "python".clone_into(&mut description.bridge);
        description.event_loop.clone_from(&event_loop.name);
        tokio::spawn(settle(inbox));
        Ok(Self { queue, event_loop, description, types, nulled })
    }
}

/// Hands each result to its call's future, on a Tokio thread. The runtime is woken once for each batch.
async fn settle(mut inbox: mpsc::UnboundedReceiver<Settled>) {
    while let Some(batch) = inbox.recv().await {
        for (job, reply) in batch {
            job.give(reply);
        }
    }
}

impl Bridge for PythonBridge {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn types(&self) -> Option<&dyn Types> {
        Some(&*self.types)
    }

    fn submit(&self, attempt: Attempt) -> Call {
        attempt.clock.runs_on(Arc::clone(&self.event_loop.pulse) as Arc<dyn Lane>);
        let number = self.queue.next_id();
        let (job, reply) = Job::new(number, attempt);
        if !self.queue.push(job) {
            return Call::driven(ready(Err(BridgeError::LoopStopped.into())));
        }
        Call::sent(reply, Arc::clone(&self.queue) as Arc<dyn CancelCall>, number)
    }

    fn health(&self) -> Health {
        self.event_loop.health(self.queue.calls(), &self.nulled)
    }

    fn close(&self, within: Duration) -> bool {
        self.queue.close();
        let ended = self.event_loop.shut_down(within);
        // The results of the loop's last turn.
        self.queue.send();
        ended
    }
}

impl Drop for PythonBridge {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pyo3::prelude::*;

    use super::interpreter::{self, Interpreter};
    use super::*;
    use crate::call::call_clock;
    use crate::row::Value;

    #[tokio::test]
    async fn a_closed_bridge_keeps_neither_its_workers_nor_their_predictor() {
        Interpreter::start(&interpreter::choose(None)).unwrap();
        for kind in [LoopKind::Asyncio, LoopKind::Uvloop] {
            let spec = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/predictors/contract.py:echo");
            let request = Request::of_spec(spec.to_owned(), 1);
            let bridge = PythonBridge::start(kind, request, Secrets::default()).unwrap();
            let arguments = Arc::new(vec![("question".into(), Value::Text("q".to_owned()))]);
            let (clock, _watch) = call_clock(Instant::now());
            bridge.submit(Attempt { row: 0, number: 1, arguments, clock }).await.unwrap();
            let queue = Arc::downgrade(&bridge.queue);
            assert!(bridge.close(Duration::from_secs(10)));
            drop(bridge);
            Python::attach(|py| py.import("gc").unwrap().call_method0("collect").map(drop)).unwrap();
            assert_eq!(queue.strong_count(), 0, "{kind:?}");
        }
    }
}
