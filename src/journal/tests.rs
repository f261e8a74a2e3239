//! Journals cut, flipped and lost: what recovery makes of them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::value::RawValue;

use super::format::Record;
use super::recover::{Damaged, Recovered};
use super::session::{End, Header, VERSION};
use super::testing::{answered, failed, hash_of, header};
use super::{Journal, JournalError, Reader, Status};
use crate::row::Value;
use crate::usage::Usage;

/// Eight rows in two sessions: 0 to 5 answered, 6 failed and then answered, 7 in flight. The first ended in order.
fn two_sessions(path: &Path) -> Vec<u8> {
    let mut journal = Journal::create(path, &header(1, 0..8)).unwrap();
    journal.append_started(&(0..8).map(|row| (row, hash_of(row))).collect::<Vec<_>>()).unwrap();
    for row in 0..6 {
        journal.append_outcome(&answered(row)).unwrap();
    }
    journal.append_outcome(&failed(6)).unwrap();
    journal.append_end(&end()).unwrap();
    journal.append_header(&header(2, 0..8)).unwrap();
    journal.append_started(&[(6, hash_of(6)), (7, hash_of(7))]).unwrap();
    journal.append_outcome(&answered(6)).unwrap();
    journal.checkpoint().unwrap();
    fs::read(path).unwrap()
}

fn end() -> End {
    End {
        finished_at: "2026-01-01T00:00:09Z".to_owned(),
        exit_code: 3,
        reason: None,
        hurried: false,
        broken: false,
        totals: serde_json::json!({"rows": 2}),
    }
}

/// Where a sync costs nothing: there are thousands.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Every record that is accepted, as JSON, and what they come to.
fn records(bytes: &[u8]) -> (Vec<String>, Recovered) {
    let mut records = Vec::new();
    let visit = |record: &Record<'_>| records.push(serde_json::to_string(record).unwrap());
    let recovered = Recovered::from_reader(bytes, Path::new("in memory"), visit).unwrap();
    (records, recovered)
}

fn answered_rows(recovered: &Recovered) -> Vec<u64> {
    recovered
        .index
        .selection()
        .rows()
        .filter(|row| recovered.index.status(*row) == Some(Status::Ok))
        .collect()
}

/// Reads every row that counts as answered and holds it against what was asked.
fn assert_no_wrong_answer(path: &Path, recovered: &Recovered) {
    let mut reader = Reader::open(path).unwrap();
    for row in answered_rows(recovered) {
        let outcome = reader.outcome(&recovered.index, row).unwrap().unwrap();
        let Ok(answer) = outcome.result else { panic!("row {row} is indexed as answered") };
        assert_eq!(outcome.hash, hash_of(row));
        assert_eq!(answer.fields[0].1, Value::Text(format!("answer {row}")));
    }
}

#[test]
fn sessions_outcomes_and_rows_in_flight_are_recovered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    two_sessions(&path);
    let mut outcomes = 0;
    let recovered =
        Recovered::read(&path, |record| outcomes += u32::from(matches!(record, Record::Outcome(_)))).unwrap();
    assert_eq!(outcomes, 8);
    assert_eq!(recovered.sessions, [header(1, 0..8), header(2, 0..8)]);
    assert_eq!(answered_rows(&recovered), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(recovered.in_flight, BTreeSet::from([7]));
    assert_eq!(recovered.fields.names(), ["answer", "reasoning"]);
    assert_eq!((recovered.damaged.len(), recovered.torn_bytes, recovered.end.as_ref()), (0, 0, None));
    assert_no_wrong_answer(&path, &recovered);
}

#[test]
fn a_journal_cut_at_any_byte_keeps_every_whole_record_and_takes_new_ones() {
    let directory = in_memory();
    let bytes = two_sessions(&directory.path().join("whole"));
    let path = directory.path().join("cut");
    let (whole_records, _) = records(&bytes);
    let first_header = memchr::memchr(b'\n', &bytes).unwrap() + 1;
    for length in 0..bytes.len() {
        let cut = &bytes[..length];
        fs::write(&path, cut).unwrap();
        let read = Recovered::read(&path, |_| ());
        assert_eq!(fs::read(&path).unwrap(), cut, "reading changes nothing");
        if length < first_header {
            assert!(matches!(read, Err(JournalError::NoHeader { .. })), "cut to {length}");
            assert!(matches!(Journal::recover(&path, |_| ()), Err(JournalError::NoHeader { .. })));
            assert_eq!(fs::read(&path).unwrap(), cut, "what is no journal is not cut");
            continue;
        }
        let whole = memchr::memrchr(b'\n', cut).unwrap() + 1;
        assert_eq!(read.unwrap().torn_bytes, (length - whole) as u64);
        let (kept, _) = records(cut);
        assert_eq!(kept, whole_records[..kept.len()], "cut to {length}");
        // All that are left, but for the two copies of each header.
        let lines = |bytes: &[u8]| {
            bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count()
        };
        assert!(lines(&bytes[..whole]) - kept.len() <= 2, "cut to {length}");

        let (mut journal, recovered) = recovered(&path);
        let before = answered_rows(&recovered);
        assert_eq!((recovered.torn_bytes, recovered.damaged.len()), ((length - whole) as u64, 0));
        assert_eq!(fs::read(&path).unwrap(), bytes[..whole]);
        journal.append_outcome(&answered(7)).unwrap();
        journal.commit().unwrap();
        drop(journal);
        let again = Recovered::read(&path, |_| ()).unwrap();
        assert_eq!((again.damaged.len(), again.torn_bytes), (0, 0));
        assert_eq!(answered_rows(&again), [before, vec![7]].concat());
        assert_no_wrong_answer(&path, &again);
    }
}

/// A child that another test of this process is just starting shares the lock until it has its own program.
fn recovered(path: &Path) -> (Journal, Recovered) {
    loop {
        match Journal::recover(path, |_| ()) {
            Err(JournalError::Locked { .. }) => std::thread::yield_now(),
            recovered => return recovered.unwrap(),
        }
    }
}

#[test]
fn no_flipped_bit_costs_more_than_its_record_or_gives_a_wrong_one() {
    let directory = in_memory();
    let bytes = two_sessions(&directory.path().join("whole"));
    let path = directory.path().join("flipped");
    let (whole, _) = records(&bytes);
    let mut flipped = bytes.clone();
    for bit in 0..bytes.len() * 8 {
        let at = bit / 8;
        flipped[at] ^= 1 << (bit % 8);
        let (kept, read) = records(&flipped);
        let mut originals = whole.iter();
        assert!(
            kept.iter().all(|record| originals.any(|whole| whole == record)),
            "bit {bit} gave a wrong record"
        );
        let lost = whole.len() - kept.len();
        assert!(lost <= 1, "bit {bit} cost {lost} records");
        let blank = at > 0 && bytes[at - 1..=at] == *b"\n\n";
        assert!(blank || !read.damaged.is_empty() || read.torn_bytes > 0, "bit {bit} went unseen");
        // Every third bit goes through the file, the lock and the cut as well: more than ten thousand.
        if bit % 3 == 0 {
            fs::write(&path, &flipped).unwrap();
            let (_, recovered) = recovered(&path);
            assert_eq!((&recovered.damaged, recovered.torn_bytes), (&read.damaged, read.torn_bytes));
            assert_eq!(answered_rows(&recovered), answered_rows(&read));
            assert_eq!(fs::read(&path).unwrap(), flipped[..read.whole_bytes as usize], "bit {bit}");
            assert_no_wrong_answer(&path, &recovered);
        }
        flipped[at] = bytes[at];
    }
    assert!(bytes.len() * 8 / 3 >= 10_000);
}

#[test]
fn a_damaged_line_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged");
    let mut bytes = two_sessions(&path);
    let offset = Recovered::read(&path, |_| ()).unwrap().index.offset(2).unwrap();
    bytes[offset as usize + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let recovered = Recovered::read(&path, |_| ()).unwrap();
    assert_eq!(recovered.damaged, [Damaged { line: 8, offset, header: false }]);
    assert_eq!(answered_rows(&recovered), [0, 1, 3, 4, 5, 6]);
}

#[test]
fn a_row_outside_the_selection_counts_as_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    let mut journal = Journal::create(&path, &header(1, 0..2)).unwrap();
    journal.append_outcome(&answered(2)).unwrap();
    journal.commit().unwrap();
    assert_eq!(Recovered::read(&path, |_| ()).unwrap().damaged.len(), 1);
}

#[test]
fn a_journal_whose_header_is_lost_is_refused_rather_than_called_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    let mut bytes = two_sessions(&path);
    let second = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap() + 2;
    bytes[20] ^= 1;
    bytes[second + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(Journal::recover(&path, |_| ()), Err(JournalError::NoHeader { .. })));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn an_answer_nested_deeper_than_parsers_go_is_recovered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    let deep = RawValue::from_string("[".repeat(50_000) + &"]".repeat(50_000)).unwrap();
    let mut outcome = answered(0);
    outcome.result.as_mut().unwrap().fields[0].1 = Value::Json(deep);
    let mut journal = Journal::create(&path, &header(1, 0..1)).unwrap();
    journal.append_outcome(&outcome).unwrap();
    journal.commit().unwrap();
    assert_eq!(Recovered::read(&path, |_| ()).unwrap().index.status(0), Some(Status::Ok));
}

#[test]
fn a_journal_of_another_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    let mut later = header(1, 0..2);
    later.version = VERSION + 1;
    drop(Journal::create(&path, &later).unwrap());
    assert!(matches!(Journal::recover(&path, |_| ()), Err(JournalError::Foreign { line: 1, .. })));
}

/// A journal of two rows, the first of them answered, followed by a line of this JSON.
fn followed_by(path: &Path, json: &str) -> Vec<u8> {
    let mut journal = Journal::create(path, &header(1, 0..2)).unwrap();
    journal.append_outcome(&answered(0)).unwrap();
    journal.commit().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let record: Box<RawValue> = serde_json::from_str(json).unwrap();
    super::line::append(&mut bytes, &record).unwrap();
    bytes
}

#[test]
fn a_record_of_a_later_version_is_no_damage_and_asks_no_row_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    let bytes = followed_by(&path, r#"{"batch_of_outcomes":{"rows":[1]}}"#);
    fs::write(&path, &bytes).unwrap();
    for refused in [Journal::recover(&path, |_| ()).map(drop), Recovered::read(&path, |_| ()).map(drop)] {
        let error = refused.unwrap_err();
        assert!(matches!(&error, JournalError::Unknown { line: 6, .. }), "{error:?}");
        assert!(
            error.to_string().contains("holds a record `batch_of_outcomes` that this version"),
            "{error}"
        );
    }
    assert_eq!(fs::read(&path).unwrap(), bytes, "it is left as it was");
}

#[test]
fn a_record_that_may_be_passed_over_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    let bytes = followed_by(&path, r#"{"_note":{"text":"of a later version"}}"#);
    fs::write(&path, &bytes).unwrap();
    let (mut journal, recovered) = recovered(&path);
    assert_eq!((recovered.damaged.len(), answered_rows(&recovered)), (0, vec![0]));
    journal.append_outcome(&answered(1)).unwrap();
    journal.commit().unwrap();
    assert_eq!(answered_rows(&Recovered::read(&path, |_| ()).unwrap()), [0, 1]);
}

#[test]
fn a_header_begins_with_its_version_where_0_1_looks_for_it_to_refuse_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    drop(Journal::create(&path, &header(1, 0..2)).unwrap());
    let bytes = fs::read(&path).unwrap();
    assert!(bytes[9..].starts_with(br#"{"header":{"version":2,"#));
}

#[test]
fn of_a_version_1_outcome_what_has_records_of_its_own_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    let mut first = header(1, 0..3);
    first.version = 1;
    drop(Journal::create(&path, &first).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let usage = |calls: u32| format!(r#"{{"input":{},"output":1,"calls":{calls}}}"#, calls * 10);
    let timing = "[0,0,0,0,0,0,5,0,0,9,7]";
    let fields = r#""result":{"ok":{"fields":{"answer":"a"}}}"#;
    let failed = r#""result":{"failed":{"class":"timeout","kind":"transient","message":"m"}}"#;
    for json in [
        format!(
            r#"{{"attempt":{{"row":0,"number":1,"class":"E","began_ns":0,"ended_ns":1,"abandoned":1,"unanswered":1,"usage":{}}}}}"#,
            usage(1)
        ),
        format!(
            r#"{{"outcome":{{"row":0,"hash":"00",{fields},"attempts":2,"errors":["E"],"abandoned":1,"unanswered":1,"usage":{},"timing_ns":{timing}}}}}"#,
            usage(3)
        ),
        r#"{"attempt":{"row":1,"number":1,"class":"timeout","began_ns":0,"ended_ns":1}}"#.to_owned(),
        format!(
            r#"{{"outcome":{{"row":1,"hash":"00",{failed},"attempts":1,"errors":["timeout"],"timing_ns":{timing}}}}}"#
        ),
        format!(
            r#"{{"outcome":{{"row":2,"hash":"00",{failed},"attempts":1,"errors":["timeout"],"abandoned":1,"usage":{},"timing_ns":{timing}}}}}"#,
            usage(1)
        ),
    ] {
        let record: Box<RawValue> = serde_json::from_str(&json).unwrap();
        super::line::append(&mut bytes, &record).unwrap();
    }
    fs::write(&path, &bytes).unwrap();
    let mut outcomes = Vec::new();
    let visit = |record: &Record<'_>| {
        if let Record::Outcome(outcome) = record {
            outcomes.push(outcome.clone().into_owned());
        }
    };
    drop(Journal::recover(&path, visit).unwrap());
    let input = |usage: Option<Usage>| usage.map(|usage| usage.input);
    let [first, second, third] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(
        (input(first.last_usage()), input(first.usage()), first.abandoned),
        (Some(20), Some(30), false)
    );
    assert_eq!((second.told_before, second.last_usage()), (true, None));
    assert_eq!((third.told_before, third.abandoned, input(third.last_usage())), (false, true, Some(10)));
    let mut reader = Reader::open(&path).unwrap();
    let index = Recovered::read(&path, |_| ()).unwrap().index;
    assert_eq!(input(reader.outcome(&index, 0).unwrap().unwrap().usage()), Some(30), "by row, too");
}

#[test]
fn the_end_of_the_last_session_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    let mut journal = Journal::create(&path, &header(1, 0..2)).unwrap();
    journal.append_end(&end()).unwrap();
    journal.commit().unwrap();
    assert_eq!(Recovered::read(&path, |_| ()).unwrap().end, Some(end()));
    journal.append_header(&header(2, 0..2)).unwrap();
    journal.commit().unwrap();
    assert_eq!(Recovered::read(&path, |_| ()).unwrap().end, None);
}

#[test]
fn a_header_with_an_impossible_selection_is_damage_and_makes_no_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    let whole = two_sessions(&path);
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    for selection in [8..0, 0..u64::MAX, 0..u64::MAX / 8] {
        let (mut bytes, selection) = (Vec::new(), selection.into());
        let record = Record::Header(Cow::Owned(Header { selection, ..header(3, 0..8) }));
        super::line::append(&mut bytes, &record).unwrap();
        let alone = Recovered::from_reader(&*bytes, &path, |_| ());
        assert!(matches!(alone, Err(JournalError::NoHeader { .. })));
    }
    let reversed = Record::Header(Cow::Owned(Header {
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
        selection: (8..0).into(),
        ..header(3, 0..8)
    }));
    let mut bytes = whole.clone();
    super::line::append(&mut bytes, &reversed).unwrap();
    let (_, later) = records(&bytes);
    assert_eq!((later.sessions.len(), later.damaged.len()), (2, 1));
    assert_eq!(answered_rows(&later), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn the_record_behind_a_damaged_line_feed_is_read_where_it_lies() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.journal");
    let mut bytes = two_sessions(&path);
    let offset = Recovered::read(&path, |_| ()).unwrap().index.offset(3).unwrap();
    bytes[offset as usize - 1] = b'J';
    fs::write(&path, &bytes).unwrap();
    let (_, recovered) = recovered(&path);
    assert_eq!(recovered.damaged.len(), 1);
    assert_eq!(answered_rows(&recovered), [0, 1, 3, 4, 5, 6]);
    assert_eq!(recovered.index.offset(3), Some(offset));
    assert_no_wrong_answer(&path, &recovered);
}
