//! The program as a user runs it: the real binary as a child process, real Python, calls counted outside of it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

mod aimock_itself;
mod api;
mod compare;
mod local_model;
mod process;
mod readme;
mod scale;
mod progress;
mod resume;
mod resume_after_kill;
mod resume_refused;
mod signals;
