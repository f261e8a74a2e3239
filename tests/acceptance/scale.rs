//! Many rows: no call lost or doubled, no time wasted between calls, no memory kept a row.

use std::fmt::Write;

use super::support::job::Job;

/// As many questions as calls for, answered by the bridge without Python; returns the peak memory in bytes.
fn peak_memory_of(rows: usize) -> u64 {
    let job = Job::new().questions(rows);
    job.run(&["process", "questions.csv", "-o", "answers.csv", "--bridge", "fake"]).expect(0).peak_memory
}

#[test]
fn memory_grows_by_at_most_16_bytes_a_row() {
    let (few, many) = (30_000, 1_000_000);
    let grown = peak_memory_of(many).saturating_sub(peak_memory_of(few));
    // What the allocator keeps of what is in flight differs from run to run by about this: a tenth of the bound.
    let noise = 2_000_000;
    assert!(grown < (many - few) as u64 * 16 + noise, "{grown} bytes more for {} rows more", many - few);
}

#[test]
fn a_thousand_slots_are_filled_again_and_again() {
    // A call ends only once 1,000 of them are in flight.
    let job = Job::new()
        .questions(20_000)
        .predictor(
            "waiting = []
async def predict(question):
    waiting.append(asyncio.get_running_loop().create_future())
    mine = waiting[-1]
    if len(waiting) == 1000:
        for one in waiting:
            one.set_result(None)
        waiting.clear()
    await mine
    return question",
        )
        .args(["-c", "1000", "--timeout", "20s", "--retries", "0"]);
    job.process().expect(0);
    assert_eq!(job.report()["concurrency"]["achieved_max"], 1_000);
    assert_eq!(job.column("answer"), job.column("question"));
}

#[test]
fn a_file_that_has_an_answer_column_keeps_it_and_every_byte_of_its_own() {
    let mut input = String::new();
    for i in 0..1319 {
        let question = format!("Janet\\u2019s {i} \\\"ducks\\\",\\n how many eggs? é");
        writeln!(input, r#"{{"question": "{question}",  "answer": "{i} - 4\n#### {i}", "n": {i}.0}}"#)
            .unwrap();
    }
    let job = Job::new().file("questions.jsonl", &input).echo();
    let arguments =
        ["process", "questions.jsonl", "-o", "answers.jsonl", "--predictor", "predictor.py:predict"];
    job.run(&[&arguments[..], &["-c", "256"]].concat()).expect(0).says("`predicted_answer`");

    assert_eq!(job.calls().len(), 1319);
    let answers = job.read("answers.jsonl");
    assert_eq!(answers.lines().count(), 1319);
    for (asked, answered) in input.lines().zip(answers.lines()) {
        assert!(answered.starts_with(asked.strip_suffix('}').unwrap()), "{answered}");
    }
    for answer in job.lines("answers.jsonl") {
        assert_eq!(answer["predicted_answer"], answer["question"]);
    }
}
