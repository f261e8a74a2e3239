//! Servers that fail each request once and then answer it, over real sockets. The policy itself is tested on paused
//! time.

use std::time::Duration;

use serde_json::json;

use super::support::aimock::{Aimock, Fixtures};
use super::support::job::Job;

const ROWS: usize = 100;

/// A server that fails each question from the given one on with the status the first time.
fn failing_first(status: u16, from: usize, rows: usize) -> Fixtures {
    let fails = |fixtures: Fixtures, row: usize| fixtures.fail_once(&format!("Question {row}?"), status, 0);
    let fixtures = (from..rows).fold(Fixtures::default(), fails);
    (0..rows).fold(fixtures, |fixtures, row| {
        fixtures.answer(&format!("Question {row}?"), &format!("Answer {row}"))
    })
}

fn answered(server: &Aimock, rows: usize) -> Duration {
    let job = Job::new().questions(rows);
    let base = server.base_url();
    let model = ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/gpt-4o-mini"];
    job.run(&[&model[..], &["--api-base", &base, "-c", "16"]].concat()).expect(0);
    assert_eq!(job.column("answer"), (0..rows).map(|row| format!("Answer {row}")).collect::<Vec<_>>());
    Duration::from_secs_f64(job.report()["wall_s"].as_f64().unwrap())
}

#[test]
fn rows_that_are_answered_at_the_second_time_are_all_answered_soon_and_with_few_requests() {
    for status in [502, 500, 504] {
        let server = Aimock::start(&failing_first(status, 0, ROWS));
        let took = answered(&server, ROWS);
        let requests = server.journal().len();
        assert!(requests <= 250 && took <= Duration::from_secs(15), "{status}: {requests} in {took:?}");
    }
}

#[test]
fn forty_rows_that_were_answered_before_make_it_no_slower() {
    let server = Aimock::start(&failing_first(502, 40, ROWS + 40));
    let took = answered(&server, ROWS + 40);
    let requests = server.journal().len();
    assert!(requests <= 290 && took <= Duration::from_secs(15), "{requests} in {took:?}");
}

#[test]
fn connections_that_are_dropped_the_first_time_are_made_again() {
    let job = Job::new().questions(ROWS).args(["-c", "16"]).predictor(
        "seen = set()
async def served(reader, writer):
    question = (await reader.readline()).split()[1]
    while (await reader.readline()).strip():
        pass
    called(question.decode())
    if question in seen:
        writer.write(b'HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\nconnection: close\\r\\n\\r\\nok')
        await writer.drain()
    seen.add(question)
    writer.close()
server = None
async def predict(question, row_id):
    import aiohttp
    global server
    if server is None:
        server = asyncio.ensure_future(asyncio.start_server(served, '127.0.0.1', 0))
    port = (await server).sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session:
        # A client makes a GET anew by itself.
        async with session.post(f'http://127.0.0.1:{port}/{row_id}') as response:
            response.raise_for_status()
            await response.read()
            return question",
    );
    job.process().expect(0);
    let requests = job.calls().len();
    let wall = job.report()["wall_s"].as_f64().unwrap();
    assert!(requests <= 250 && wall <= 15.0, "{requests} in {wall} s");
    assert_eq!(job.report()["rows"]["ok"], json!(ROWS));
}
