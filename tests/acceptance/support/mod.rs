//! What the tests share.

pub(crate) mod aimock;
pub(crate) mod http;
pub(crate) mod job;
pub(crate) mod mocklimit;
