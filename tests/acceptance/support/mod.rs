//! Fixtures that the tests share.

pub(crate) mod aimock;
pub(crate) mod browser;
#[cfg(target_os = "linux")]
pub(crate) mod faults;
pub(crate) mod http;
pub(crate) mod job;
pub(crate) mod limited;
pub(crate) mod mocklimit;
pub(crate) mod terminal;
