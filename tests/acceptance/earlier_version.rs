//! A journal that version 0.1.0 wrote is read by this version: nothing it answered is asked for again.

use std::path::Path;

use super::support::job::Job;

/// The job of `tests/fixtures/journal_0.1`, in a directory of its own. A journal names its directory, so the name is
/// replaced, with the checksum of each line.
fn job() -> Job {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal_0.1");
    let read = |name: &str| std::fs::read_to_string(fixture.join(name)).unwrap();
    let job = Job::new();
    let directory = job.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    let moved = |line: &str| match line.split_once(' ') {
        Some((_, json)) => {
            let json = json.replace("/tmp/job", &directory);
            format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
        }
        None => format!("{line}\n"),
    };
    let journal: String = read("answers.csv.journal").lines().map(moved).collect();
    job.file("questions.csv", read("questions.csv"))
        .file("predictor.py", read("predictor.py"))
        .file("questions.answers.csv.journal", journal)
}

#[test]
fn a_journal_of_0_1_is_exported_and_resumed_with_only_its_open_rows_called() {
    let job = job();
    job.run(&["export", "questions.answers.csv", "-o", "so_far.csv"]).expect(0);
    let status = |name: &str, status: &str| {
        let records = job.records(name).into_iter();
        records
            .filter(|record| record["status"] == status)
            .map(|record| record["id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(status("so_far.csv", "ok").len(), 10);
    assert_eq!(status("so_far.csv", "failed"), ["5"]);
    assert_eq!(status("so_far.csv", "unfinished"), ["9"]);
    assert_eq!(job.calls().len(), 0);

    std::fs::write(job.path("mended"), "").unwrap();
    let done = job.run(&["resume", "questions.answers.csv"]).expect(0);
    assert!(done.stderr.contains("row 9"), "it names the call that may have been in flight: {}", done.stderr);
    let mut calls = job.calls();
    calls.sort_by_key(ToString::to_string);
    assert_eq!(calls, ["Question 5, please", "Question 9, please"]);
    assert_eq!(status("questions.answers.csv", "ok").len(), 12);
    let attempts: Vec<_> =
        job.records("questions.answers.csv").iter().map(|r| r["attempts"].clone()).collect();
    assert_eq!(attempts[3], "2", "{attempts:?}");
    job.run(&["verify", "questions.csv", "questions.answers.csv"]).expect(0);
}

#[test]
fn a_predictor_that_changed_since_0_1_is_warned_of_by_its_file_and_its_answers_are_told_apart() {
    let job = job();
    let mended = job.read("predictor.py") + "# mended\n";
    let job = job.file("predictor.py", mended).file("mended", "");
    let done = job.run(&["resume", "questions.answers.csv"]).expect(0);
    done.says("the predictor's source has changed since the last session: `predictor.py`\n");
    let report: serde_json::Value =
        serde_json::from_str(&job.read("questions.answers.csv.report.json")).unwrap();
    let versions = report["predictor_versions"].as_array().unwrap();
    let told: Vec<_> = versions.iter().map(|version| (&version["answered"], &version["rows"])).collect();
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].0, told[1].0), (&10.into(), &2.into()));
    assert_eq!(told[1].1, &serde_json::json!([[5, 6], [9, 10]]));
    assert_eq!(versions[1]["changed"], serde_json::json!(["not recorded before"]));
}

#[test]
fn a_predictor_that_changed_since_0_1_is_noticed_where_every_row_is_answered_too() {
    let job = Job::new().questions(3).echo();
    job.process().expect(0);
    // What 0.1 did not record.
    let journal = job.read("answers.csv.journal");
    let without = |line: &str| match line.get(9..) {
        Some(json) if json.starts_with("{\"header\"") => {
            let mut header: serde_json::Value = serde_json::from_str(json).unwrap();
            header["header"].as_object_mut().unwrap().remove("prompt").unwrap();
            let json = header.to_string();
            format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
        }
        _ => format!("{line}\n"),
    };
    let job = job.file("answers.csv.journal", journal.lines().map(without).collect::<String>());
    job.process().expect(0).says("nothing to do: 3 rows");
    let mended = job.read("predictor.py") + "# mended\n";
    let job = job.file("predictor.py", mended);
    job.process()
        .expect(0)
        .says("the predictor's source has changed since the last session: `predictor.py`\n");
    job.process().expect(0).says("nothing to do: 3 rows");
    assert_eq!(job.calls().len(), 3);
}

#[test]
fn a_session_in_a_newer_format_names_a_newer_program() {
    let job = job().file("mended", "");
    job.run(&["resume", "questions.answers.csv"]).expect(0);
    let journal = job.read("questions.answers.csv.journal");
    let records = journal.lines().filter_map(|line| line.split_once(' ')?.1.strip_prefix("{\"header\":"));
    let headers: Vec<serde_json::Value> =
        records.map(|header| serde_json::from_str(header.strip_suffix('}').unwrap()).unwrap()).collect();
    let (first, last) = (headers.first().unwrap(), headers.last().unwrap());
    assert_eq!((&first["version"], &last["version"]), (&1.into(), &2.into()));
    // A program that cannot read a journal gives the hint to use the one that the header names.
    assert_eq!(first["program"], "0.1.0");
    assert_ne!(last["program"], "0.1.0");
}
