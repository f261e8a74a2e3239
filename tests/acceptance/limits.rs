//! How large and how deep a record may be.

use super::support::job::Job;

#[test]
fn a_line_of_100_mb_is_answered() {
    let long = "long ".repeat(20_000_000);
    let job = Job::new().file("questions.csv", format!("question\nshort\n{long}\nend\n")).predictor(
        "async def predict(question):\n    called(len(question))\n    return str(len(question))\n",
    );
    job.process().expect(0);
    assert_eq!(job.column("answer"), ["5", "100000000", "3"]);
    assert!(job.column("question")[1] == long, "the long question has changed");
}

fn nested(depth: usize) -> String {
    // The record is the first level.
    format!("{{\"question\":\"q\",\"deep\":{}{}}}\n", "[".repeat(depth - 1), "]".repeat(depth - 1))
}

#[test]
fn json_of_128_levels_is_accepted_and_of_129_refused_with_its_line() {
    let depth = "
async def predict(question, deep):
    called(question)
    depth = 1
    while deep is not None:
        deep, depth = (deep[0] if deep else None), depth + 1
    return str(depth)
";
    let job = Job::new().predictor(depth).file("deep.jsonl", nested(2) + &nested(128));
    let run = |job: &Job, input| {
        job.run(&["process", input, "-o", "answers.jsonl", "--predictor", "predictor.py:predict"])
    };
    run(&job, "deep.jsonl").expect(0);
    // Most parsers give up at this depth, that of the fixture too.
    let answers = job.read("answers.jsonl");
    let answers: Vec<_> = answers.lines().map(|record| record.split_once("\"answer\":").unwrap().1).collect();
    assert!(answers[0].starts_with("\"2\",") && answers[1].starts_with("\"128\","), "{answers:?}");

    let job = Job::new().predictor(depth).file("deeper.jsonl", nested(2) + &nested(128) + &nested(129));
    run(&job, "deeper.jsonl").expect(1).says("line 3 nests deeper than 128 levels");
    assert_eq!(job.calls().len(), 0);
}
