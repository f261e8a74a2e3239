//! What this process and the relay tell each other: JSON objects, one a line.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};

/// Which cluster is to be reached, and what its actors are to have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Connect {
    /// `local`, `auto` or the address of a cluster's head.
    pub address: String,
    /// How many actors there are to be at the most: fewer where there is no room for them.
    pub actors: usize,
    /// The CPUs that Ray sets aside for an actor, unless that is left to Ray's own default.
    pub cpus: Option<f64>,
    /// The same for GPUs.
    pub gpus: Option<f64>,
    /// The same for other resources.
    pub resources: BTreeMap<String, f64>,
    /// Ray's runtime environment.
    pub runtime_env: serde_json::Value,
    /// The number of the protocol, which must be that of the actors.
    pub protocol: u32,
    /// The version of this program, likewise.
    pub version: String,
    /// The version of Python, `major.minor`, likewise.
    pub python: String,
}

/// What the relay is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToRelay<'a> {
    Connect(&'a Connect),
    /// Start the actor with this number. One end of its connection comes along.
    Start(u64),
    Kill(u64),
    /// The actor could not load what another one did.
    Refused(u64),
    /// End all, within so many seconds.
    Close(f64),
}

/// What the relay tells.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", untagged)]
pub(super) enum FromRelay {
    Connected {
        connected: Connected,
    },
    /// Why there is no cluster.
    Failed {
        failed: String,
        /// Whether it may be there later.
        #[serde(default)]
        unreachable: bool,
    },
    Placed {
        placed: u64,
        node: String,
    },
    /// Why an actor is not placed yet.
    Waiting {
        waiting: u64,
        why: String,
    },
    Died {
        died: u64,
        how: String,
        /// Whether its end was seen. If not, it must have ended itself by now.
        proven: bool,
    },
    /// Why an actor will never be ready.
    Cannot {
        cannot: u64,
        why: String,
    },
    /// How many actors the nodes hold.
    Capacity {
        capacity: usize,
    },
    /// Why nothing can go on.
    Lost {
        lost: String,
    },
}

/// The cluster.
#[derive(Debug, PartialEq, Deserialize)]
pub(in crate::bridge::workers) struct Connected {
    /// How many actors it holds.
    pub(in crate::bridge::workers) capacity: usize,
    /// What it is, in words: `2 nodes, 4 CPUs`.
    pub(in crate::bridge::workers) note: String,
    /// For how many seconds an actor may go on that is cut off.
    pub(super) gone_after: f64,
}

/// Sends a line, and a descriptor along with it.
///
/// # Errors
///
/// Fails if the relay is gone.
pub(super) fn send(mut socket: &UnixStream, line: &[u8], descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let sent = match descriptor {
        None => 0,
        Some(descriptor) => {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut along = SendAncillaryBuffer::new(&mut space);
            let descriptors = [descriptor.as_fd()];
            along.push(SendAncillaryMessage::ScmRights(&descriptors));
            sendmsg(socket, &[IoSlice::new(line)], &mut along, SendFlags::NOSIGNAL)?
        }
    };
    socket.write_all(&line[sent..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_written_as_the_relay_reads_them() {
        let written = |message: ToRelay<'_>| serde_json::to_string(&message).unwrap();
        assert_eq!(written(ToRelay::Start(7)), r#"{"start":7}"#);
        assert_eq!(written(ToRelay::Close(1.5)), r#"{"close":1.5}"#);
        let connect = Connect {
            address: "local".to_owned(),
            actors: 16,
            cpus: Some(0.5),
            gpus: None,
            resources: BTreeMap::from([("fast".to_owned(), 1.0)]),
            runtime_env: serde_json::json!({"working_dir": "/app"}),
            protocol: 1,
            version: "0.2.0".to_owned(),
            python: "3.11".to_owned(),
        };
        assert_eq!(
            written(ToRelay::Connect(&connect)),
            r#"{"connect":{"address":"local","actors":16,"cpus":0.5,"gpus":null,"resources":{"fast":1.0},"runtime_env":{"working_dir":"/app"},"protocol":1,"version":"0.2.0","python":"3.11"}}"#
        );
    }

    #[test]
    fn what_the_relay_tells_is_read_whatever_else_it_tells() {
        let read = |text: &str| serde_json::from_str::<FromRelay>(text).unwrap();
        assert_eq!(
            read(
                r#"{"connected": {"nodes": ["a"], "capacity": 4, "ray": "2.60.0", "note": "1 node, 4 CPUs", "gone_after": 20.0}}"#
            ),
            FromRelay::Connected {
                connected: Connected { capacity: 4, note: "1 node, 4 CPUs".to_owned(), gone_after: 20.0 }
            }
        );
        assert_eq!(
            read(r#"{"died": 3, "how": "was killed", "proven": false, "oom": false}"#),
            FromRelay::Died { died: 3, how: "was killed".to_owned(), proven: false }
        );
        assert_eq!(
            read(r#"{"placed": 3, "node": "a (10.0.0.1)", "pid": 7}"#),
            FromRelay::Placed { placed: 3, node: "a (10.0.0.1)".to_owned() }
        );
        assert_eq!(read(r#"{"capacity": 5}"#), FromRelay::Capacity { capacity: 5 });
    }
}
