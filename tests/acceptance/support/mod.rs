//! What the tests share.

pub(crate) mod aimock;
#[cfg(target_os = "linux")]
pub(crate) mod faults;
pub(crate) mod http;
pub(crate) mod job;
