//! Recovery of a journal whose header is followed by anything: nothing is accepted that its checksum contradicts, and
//! to recover twice comes to the same.
//!
//! The first byte says which copy of the header is damaged. Of what follows, a line that starts with `!` is given its
//! right checksum, so that what lies beyond it is reached too.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tokio_asyncio_bridge::journal::{
    Damaged, Header, InputIdentity, Journal, JournalError, Reader, Recovered, Status, VERSION,
};

const ROWS: u64 = 16;

/// One file again and again, in memory where there is a place for it.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let shared = Path::new("/dev/shm");
    let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    parent.join(format!("fuzz.{}.journal", std::process::id()))
});

/// The first header, both copies.
static HEADER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let header = Header {
        version: VERSION,
        program: "0.1.0".to_owned(),
        started_at: "2026-01-01T00:00:00Z".to_owned(),
        pid: 1,
        argv: Vec::new(),
        input: InputIdentity {
            path: "q.csv".to_owned(),
            format: "csv".to_owned(),
            delimiter: Some(','),
            encoding: "UTF-8".to_owned(),
            sha256: String::new(),
            rows: ROWS,
            empty: 0,
            header_hash: None,
        },
        selection: (0..ROWS).into(),
        identity: BTreeMap::new(),
        predictor_sha256: None,
        prompt: None,
        settings: serde_json::Value::Null,
    };
    let directory = tempfile::tempdir().expect("a place for files");
    let path = directory.path().join("journal");
    drop(Journal::create(&path, &header).expect("it is new"));
    fs::read(path).expect("it is there")
});

fn journal(bytes: &[u8]) -> Vec<u8> {
    let (choice, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let mut journal = HEADER.clone();
    let half = journal.len() / 2;
    match choice % 4 {
        1 => journal[half / 2] ^= 1,
        2 => journal[half + half / 2] ^= 1,
        3 => drop(journal.drain(half..)),
        _ => {}
    }
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_prefix(b"!") {
            Some(line) => {
                let json = line.strip_suffix(b"\n").unwrap_or(line);
                let _ = write!(journal, "{:08x} ", crc32fast::hash(json));
                journal.extend_from_slice(line);
            }
            None => journal.extend_from_slice(line),
        }
    }
    journal
}

/// What of a recovery must come out the same again.
type Gist = (Vec<Option<Status>>, Vec<Damaged>, Vec<String>, Vec<Header>, Vec<u64>, Vec<u64>);

fn gist(recovered: &Recovered) -> Gist {
    let index = &recovered.index;
    let fields = recovered.fields.names().into_iter().map(str::to_owned).collect();
    let in_flight = recovered.in_flight.iter().copied().collect();
    let status = index.selection().rows().map(|row| index.status(row)).collect();
    let suspects = recovered.blame.suspects();
    (status, recovered.damaged.clone(), fields, recovered.sessions.clone(), in_flight, suspects)
}

fn assert_checksum(bytes: &[u8], offset: u64) {
    let line = bytes[offset as usize..].split(|byte| *byte == b'\n').next().expect("there is a line");
    let (checksum, json) = line.split_at(9);
    assert_eq!(checksum, format!("{:08x} ", crc32fast::hash(json)).as_bytes());
}

fuzz_target!(|bytes: &[u8]| {
    let bytes = journal(bytes);
    fs::write(&*FILE, &bytes).expect("there is space");
    let read = Recovered::read(&FILE, |_| ());
    let (first, whole) = match (read, Journal::recover(&FILE, |_| ())) {
        (Ok(read), Ok((_, recovered))) => {
            assert_eq!(gist(&read), gist(&recovered));
            assert_eq!(read.whole_bytes + read.torn_bytes, bytes.len() as u64);
            (gist(&recovered), read.whole_bytes)
        }
        (
            Err(JournalError::Foreign { .. } | JournalError::Unknown { .. }),
            Err(JournalError::Foreign { .. } | JournalError::Unknown { .. }),
        ) => return,
        (read, recovered) => panic!("{read:?}, {:?}", recovered.map(drop)),
    };
    assert_eq!(fs::read(&*FILE).expect("it is there"), bytes[..whole as usize]);
    let (_, again) = Journal::recover(&FILE, |_| ()).expect("it was recovered before");
    assert_eq!(again.torn_bytes, 0);
    assert_eq!(gist(&again), first);

    let mut reader = Reader::open(&FILE).expect("it is there");
    for row in 0..ROWS {
        let outcome = reader.outcome(&again.index, row).expect("what is indexed can be read");
        let decided = outcome.map(|outcome| (outcome.row, Status::of(&outcome)));
        assert_eq!(decided, again.index.status(row).map(|status| (row, status)));
        again.index.offset(row).into_iter().for_each(|offset| assert_checksum(&bytes, offset));
    }
});
