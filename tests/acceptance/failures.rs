//! `report --failures`: every row to look at, with all that is recorded of why.

use super::support::job::Job;

#[test]
fn each_failed_row_is_printed_with_its_error_and_traceback_also_after_a_kill() {
    let job = Job::new().questions(5).predictor(
        "
def helper(text):
    raise ValueError(text)
async def predict(question, row_id, attempt):
    called(row_id)
    if row_id == 1:
        helper('first line\\nsecond \\x1b[2J line')
    if row_id == 2 and attempt == 1:
        raise RuntimeError('dropped')
    if row_id == 3:
        if attempt == 2:
            open('tried', 'w').close()
        raise RuntimeError(f'attempt {attempt}')
    if row_id == 4:
        while not os.path.exists('tried'):
            await asyncio.sleep(0.01)
        # Its outcome is recorded a moment later.
        await asyncio.sleep(0.5)
        os.kill(os.getpid(), 9)
    return question
",
    );
    job.process_with(&["--backoff", "1ms", "--retries", "1", "-c", "2"]).expect(-9);
    let report = ["report", "answers.csv", "--failures"];
    let text = job.run(&report).expect(0).stdout;
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("row ")).collect();
    assert_eq!(
        rows,
        [
            "row 1: ValueError: first line",
            "row 3: RuntimeError: attempt 2 (2 attempts: RuntimeError, RuntimeError)"
        ],
        "{text}"
    );
    assert!(text.contains("  second \\u{1b}[2J line\n") && !text.contains('\u{1b}'), "{text}");
    assert!(
        text.contains("  Traceback (most recent call last):\n") && text.contains(", in helper\n"),
        "{text}"
    );
    assert!(!text.contains("Attempts"), "the summary is another command: {text}");
}

#[test]
fn a_row_that_was_answered_in_the_end_is_no_failure() {
    let job = Job::new().questions(2).predictor(
        "async def predict(question):\n    if not os.path.exists('go'): raise ValueError\n    return question\n",
    );
    job.process().expect(3);
    assert_eq!(
        job.run(&["report", "answers.csv", "--failures"])
            .expect(0)
            .stdout
            .matches("\nrow 1: ValueError\n")
            .count(),
        1
    );
    std::fs::write(job.path("go"), "").unwrap();
    job.resume().expect(0);
    let done = job.run(&["report", "answers.csv", "--failures"]).expect(0);
    assert_eq!(done.stdout, "No row failed, and no answer was cut off.\n");
}
