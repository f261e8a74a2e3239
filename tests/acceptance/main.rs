//! The program as a user runs it: the real binary as a child process, real Python, calls counted outside of it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::format_collect, reason = "small inputs, made once")]

mod support;

mod aimock_itself;
mod environment;
mod formats;
mod guards;
mod local_model;
mod pace;
mod predictors;
mod process;
mod refusals;
mod secrets;
