//! A job: what it is, and where its files are.

pub mod paths;
pub mod spec;
