//! The program as a user runs it: the real binary as a child process, real Python, calls counted outside of it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::format_collect, reason = "small inputs, made once")]

mod support;

mod aimock_itself;
mod alarms;
mod api;
mod attempts;
mod carried;
mod compare;
mod compare_stopped;
mod completions;
mod conservation;
#[cfg(target_os = "linux")]
mod continued;
mod crash_points;
mod demo;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod disk_hangs;
mod doctor;
mod dspy;
mod earlier_version;
mod env_file;
mod environment;
mod excel;
mod failing_first;
mod failures;
mod forbidden;
#[cfg(target_os = "linux")]
mod forks;
mod formats;
mod guards;
mod hang;
mod hostile;
mod internal;
mod interrupted_projection;
#[cfg(target_os = "linux")]
mod journal_lost;
mod kill;
mod layers;
mod ledger;
mod limits;
mod local_model;
mod model;
mod money;
mod overwriting;
mod pace;
mod page;
mod places;
mod predictors;
mod process;
mod progress;
mod prompts;
mod ray_options;
mod readme;
mod refusals;
mod relay;
mod replies;
mod resume;
mod resume_after_kill;
mod resume_changed;
mod resume_refused;
mod scale;
mod schedulers;
mod secrets;
mod set_aside;
mod shards;
mod signals;
mod storm;
mod surroundings;
mod terminal;
mod threads;
mod typed;
mod verify;
#[cfg(target_os = "linux")]
mod workers;
#[cfg(target_os = "linux")]
mod workers_ends;
#[cfg(target_os = "linux")]
mod workers_faults;
mod workers_told;
