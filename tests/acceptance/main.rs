//! The program as a user runs it: the real binary as a child process, real Python, calls counted outside of it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

mod aimock_itself;
mod hostile;
mod local_model;
mod process;
