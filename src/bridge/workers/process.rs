//! Processes that end with this one: started, killed with all that they have started themselves, and reaped.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::{oneshot, watch};

use super::death::Death;
use super::life::{Died, Kind, Life, Node, Started, Starting};
use crate::environment;

/// The processes that have not been reaped, and the event that one was. A process leads a group of the same number, and
/// that number belongs to no other process until it is reaped. So whoever holds the lock may send signals to it.
static ALIVE: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static REAPED: Condvar = Condvar::new();

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// Starts processes on one thread. A worker is to die with the thread that started it, so that thread lives as long as
/// this and all processes that it has started.
#[derive(Debug, Clone)]
pub(super) struct Starter(Sender<Order>);

/// What to start, whether its standard error is to be read, whom to tell, and what keeps the thread alive meanwhile.
#[derive(Debug)]
struct Order(Program, bool, oneshot::Sender<io::Result<Spawned>>, Starter);

/// A process that was started. Dropping this kills it and all that it has started itself.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: Pid,
    _starter: Starter,
}

/// A process that has just been started.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) process: Process,
    /// The other end of what the process has as its standard input.
    pub(super) socket: UnixStream,
    /// How it died, once it was reaped.
    pub(super) died: Died,
    /// Its standard error, if that is to be read.
    pub(super) stderr: Option<ChildStderr>,
}

/// Workers that are processes of this machine.
#[derive(Debug)]
pub(super) struct Processes {
    pub(super) starter: Starter,
    pub(super) program: Program,
}

impl Kind for Processes {
    fn start(&self) -> Starting<'_> {
        Box::pin(async {
            let Spawned { process, socket, died, .. } =
                self.starter.start(self.program.clone(), false).await?;
            Ok(Started { life: Arc::new(process), socket, died, node: Node::default() })
        })
    }
}

impl Starter {
    /// # Errors
    ///
    /// Fails if no thread can be started.
    pub(super) fn new() -> io::Result<Self> {
        let (orders, inbox) = channel::<Order>();
        let start = move || {
            for Order(program, reads_stderr, reply, starter) in inbox {
                // If nobody waits any more, the process is killed.
                let _ = reply.send(start(&program, reads_stderr, starter));
            }
        };
        std::thread::Builder::new().name("workers".into()).spawn(start)?;
        Ok(Self(orders))
    }

    /// Starts a process in a group of its own, with this process's environment and current directory. What it writes to
    /// its standard output goes to standard error, which is that of this process unless it is to be read.
    ///
    /// # Errors
    ///
    /// Fails if the machine is out of processes, memory or descriptors, or the program cannot be run.
    pub(super) async fn start(&self, program: Program, reads_stderr: bool) -> io::Result<Spawned> {
        let (reply, started) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts the workers is gone");
        self.0.send(Order(program, reads_stderr, reply, self.clone())).map_err(|_| gone())?;
        started.await.map_err(|_| gone())?
    }
}

fn start(program: &Program, reads_stderr: bool, starter: Starter) -> io::Result<Spawned> {
    // Both are closed where a program is run, but for the copy that becomes the standard input.
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).process_group(0);
    command.stdin(OwnedFd::from(theirs)).stdout(rustix::stdio::stderr().try_clone_to_owned()?);
    if reads_stderr {
        command.stderr(Stdio::piped());
    }
    // Locked over both, or else a signal to all would miss the process in between.
    let mut alive = alive();
    let mut child = environment::spawn(&mut command)?;
    let pid = Pid::from_child(&child);
    alive.push(pid);
    drop(alive);
    let process = Process { pid, _starter: starter };
    let (tell, died) = watch::channel(None);
    let waiting = std::thread::Builder::new().name(format!("worker {pid}"));
    let wait = move || {
        tell.send_replace(Some(reap(pid)));
    };
    if let Err(error) = waiting.spawn(wait) {
        process.kill();
        reap(pid);
        return Err(error);
    }
    Ok(Spawned { process, socket: ours, died: Died(died), stderr: child.stderr.take() })
}

fn alive() -> MutexGuard<'static, Vec<Pid>> {
    ALIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the process has died, kills what is left of its group, and reaps it.
fn reap(pid: Pid) -> Death {
    // It stays a zombie meanwhile, and nobody else can have its number.
    let death = wait(pid, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    let mut alive = alive();
    if death != Death::Unknown {
        let _ = kill_process_group(pid, Signal::KILL);
        wait(pid, WaitIdOptions::EXITED);
    }
    alive.retain(|one| *one != pid);
    REAPED.notify_all();
    death
}

fn wait(pid: Pid, options: WaitIdOptions) -> Death {
    loop {
        return match waitid(WaitId::Pid(pid), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Death::Exit(code),
                (_, Some(signal)) => Death::Signal(signal),
                _ => Death::Unknown,
            },
            Err(rustix::io::Errno::INTR) => continue,
            // Somebody else has waited for it, or this process ignores the ends of its children.
            Ok(None) | Err(_) => Death::Unknown,
        };
    }
}

impl Life for Process {
    /// Kills it also if it is stopped.
    fn kill(&self) {
        let alive = alive();
        if alive.contains(&self.pid) {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }

    fn pid(&self) -> Option<Pid> {
        Some(self.pid)
    }

    fn await_end(&self, until: Instant) -> bool {
        await_reaped(self.pid, until)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until the process was reaped, or the time has come. Returns whether it was.
pub(super) fn await_reaped(pid: Pid, until: Instant) -> bool {
    let mut alive = alive();
    while alive.contains(&pid) {
        let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
        alive = REAPED.wait_timeout(alive, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    true
}

/// Stops the workers of all jobs in this process, with all that they have started themselves.
pub fn suspend() {
    send_all(Signal::STOP);
}

/// Lets them go on.
pub fn resume() {
    send_all(Signal::CONT);
}

fn send_all(signal: Signal) {
    for pid in alive().iter() {
        let _ = kill_process_group(*pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::time::Duration;

    use rustix::process::test_kill_process;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn shell(script: &str) -> Spawned {
        let arguments = vec!["-c".into(), script.into()];
        Starter::new().unwrap().start(Program { path: "/bin/sh".into(), arguments }, false).await.unwrap()
    }

    /// The numbers that the process tells, one a line.
    fn told(socket: &mut UnixStream) -> Pid {
        let mut text = Vec::new();
        let mut byte = [0];
        while socket.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            text.push(byte[0]);
        }
        Pid::from_raw(String::from_utf8(text).unwrap().parse().unwrap()).unwrap()
    }

    /// Whether the process is there, other than as a zombie.
    fn lives(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
    }

    async fn ends(pid: Pid) -> bool {
        for _ in 0..1000 {
            if !lives(pid) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    #[tokio::test]
    async fn how_a_process_died_is_told_once_it_was_reaped() {
        for (script, death) in [
            ("exit 3", Death::Exit(3)),
            ("exit 0", Death::Exit(0)),
            ("kill -SEGV $$", Death::Signal(11)),
            ("kill -KILL $$", Death::Signal(9)),
        ] {
            let mut started = shell(script).await;
            assert_eq!(started.died.wait().await, death);
            assert!(test_kill_process(started.process.pid).is_err(), "{script}: it is still there");
        }
    }

    #[tokio::test]
    async fn its_standard_input_is_the_socket_and_its_output_goes_elsewhere() {
        let mut started = shell("read line; echo lost; echo \"$line back\" >&0; read line").await;
        started.socket.write_all(b"there and\n").unwrap();
        let mut text = [0; 15];
        started.socket.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"there and back\n");
    }

    #[tokio::test]
    async fn what_a_process_has_started_ends_with_it_also_if_it_holds_the_socket_and_ignores_signals() {
        let script = "trap '' HUP TERM; sleep 1000 & echo $! >&0; kill -KILL $$";
        let mut started = shell(script).await;
        let child = told(&mut started.socket);
        assert_eq!(started.died.wait().await, Death::Signal(9));
        assert!(ends(child).await);
    }

    #[tokio::test]
    async fn dropping_it_kills_it_with_its_children_also_if_it_is_stopped() {
        let mut started = shell("sleep 1000 & echo $! >&0; kill -STOP $$").await;
        let (pid, child) = (started.process.pid, told(&mut started.socket));
        drop(started.process);
        assert_eq!(started.died.wait().await, Death::Signal(9));
        assert!(await_reaped(pid, Instant::now()));
        assert!(ends(child).await);
    }

    #[tokio::test]
    async fn one_that_was_reaped_is_not_signalled_any_more() {
        let mut started = shell("exit 0").await;
        started.died.wait().await;
        assert!(!alive().contains(&started.process.pid));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn none_is_there_before_a_signal_to_all_would_reach_it() {
        let directory = tempfile::tempdir().unwrap();
        let begun = directory.path().join("begun");
        let locked = alive();
        let starting = tokio::spawn({
            let begun = begun.display().to_string();
            async move { shell(&format!("echo > '{begun}'")).await }
        });
        std::thread::sleep(Duration::from_millis(300));
        let early = begun.exists();
        drop(locked);
        starting.await.unwrap().died.wait().await;
        assert_eq!((early, begun.exists()), (false, true));
    }

    #[tokio::test]
    async fn the_wait_for_the_end_is_bounded() {
        let started = shell("sleep 1000").await;
        let pid = started.process.pid;
        assert!(!await_reaped(pid, Instant::now() + Duration::from_millis(20)));
        started.process.kill();
        assert!(await_reaped(pid, Instant::now() + PATIENCE));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let program = Program { path: "/nowhere/at/all".into(), arguments: vec![] };
        let error = Starter::new().unwrap().start(program, false).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
