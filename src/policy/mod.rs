//! Decisions as data: when to retry, when to stop. Pure: no I/O, no clock of their own.

pub mod limits;
pub mod retry;
pub mod stop;
