//! Decisions as data: when to call, when to retry, when to stop. Pure: no I/O, no clock of their own.

pub mod breaker;
pub mod budget;
pub mod limits;
pub mod pace;
pub mod rate;
pub mod retry;
pub mod stop;
