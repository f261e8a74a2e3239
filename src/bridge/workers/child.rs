//! The worker's end: a process that serves its coordinator and does not outlive it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_getfd};
use rustix::process::{PidfdFlags, Signal, getppid, pidfd_open, set_parent_process_death_signal};

use crate::bridge::lease::end;
use crate::bridge::remote::{Asking, Served, Started, StreamTransport, serve};

/// Serves the coordinator, which is the process with the number `parent` and has started this one with a socket as its
/// standard input. `start` loads what the coordinator asks for, and `end_loaded` ends it, both on a thread that may block.
///
/// If the coordinator ends, this process is killed at once, with all that it has started, whatever the interpreter does.
///
/// # Errors
///
/// Fails if the standard input is no socket.
pub async fn serve_coordinator<S, E>(parent: u32, start: S, end_loaded: E) -> io::Result<Served>
where
    S: FnOnce(&[u8], Asking) -> Result<Started, String> + Send + 'static,
    E: FnOnce() + Send + 'static,
{
    let socket = take_socket()?;
    close_inherited(&socket);
    let watched = socket.try_clone()?;
    std::thread::Builder::new().name("coordinator".into()).spawn(move || end_with(parent, &watched))?;
    socket.set_nonblocking(true)?;
    let served = serve(StreamTransport(tokio::net::UnixStream::from_std(socket)?), start, end_loaded).await;
    if served == Served::Gone {
        end();
    }
    Ok(served)
}

/// Takes the socket from the standard input, which is empty from then on. Programs that the predictor starts do not get
/// it.
fn take_socket() -> io::Result<UnixStream> {
    let socket = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let socket = UnixStream::from(socket);
    socket.local_addr()?;
    Ok(socket)
}

/// Closes what was inherited beside the three streams. Whatever this process has opened itself is closed where another
/// program is run, so what is not was open before.
fn close_inherited(socket: &UnixStream) {
    let Ok(numbers) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> =
        numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2 && *number != socket.as_raw_fd()) {
        close_if_inherited(number);
    }
}

#[expect(unsafe_code, reason = "descriptors that nobody in this process owns")]
fn close_if_inherited(number: i32) {
    // SAFETY: the descriptor is only asked for its flags, which fails if it is not open.
    let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    if fcntl_getfd(descriptor).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)) {
        // SAFETY: it was open before this program ran, so no value in this process owns it.
        unsafe { rustix::io::close(number) };
    }
}

/// Ends this process once the other end of the socket is gone, or the coordinator is: a process that the coordinator
/// forked may hold the socket.
fn end_with(parent: u32, socket: &UnixStream) {
    let coordinator = getppid().and_then(|parent| pidfd_open(parent, PidfdFlags::empty()).ok());
    // A process that is stopped goes on, and ends what it has started too. This holds as long as the thread that asks
    // for it.
    let signal = if coordinator.is_some() { Signal::CONT } else { Signal::KILL };
    let _ = set_parent_process_death_signal(Some(signal));
    if getppid().is_none_or(|present| present.as_raw_pid() as u32 != parent) {
        end();
    }
    let mut watched = vec![PollFd::new(socket, PollFlags::RDHUP)];
    watched.extend(coordinator.iter().map(|coordinator| PollFd::new(coordinator, PollFlags::IN)));
    while poll(&mut watched, None) == Err(Errno::INTR) {}
    end();
}
