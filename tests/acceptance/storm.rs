//! Servers that limit, vanish or refuse the key, over real sockets: what the run costs them. The policies themselves
//! are tested on paused time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::support::aimock::{Aimock, Fixtures};
use super::support::job::Job;
use super::support::limited::{Limited, Refusal};
use super::support::mocklimit::Mocklimit;
use serde_json::{Value, json};

/// Asks the server at `$URL` through aiohttp, whose errors carry `status` and `headers`. Notes when a request was sent,
/// when it was answered, the status and the Retry-After.
const ASKING: &str = "
import aiohttp
session = None
async def predict(question):
    global session
    session = session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    sent = time.monotonic()
    async with session.get(os.environ['URL']) as response:
        after = float(response.headers.get('retry-after', 0))
        called([sent, time.monotonic(), response.status, after])
        response.raise_for_status()
        return question";

/// Raises what `$RAISED` says, with the attributes it has, at the first attempt of row 0.
const RAISING: &str = "
class Limited(Exception):
    status = 429
    retry_after = json.loads(os.environ['RETRY_AFTER'])
async def predict(question, row_id, attempt):
    called([row_id, attempt, time.monotonic()])
    if row_id == 0 and attempt == 1:
        raise Limited('slow down')
    return question";

/// `process questions.csv` by the default predictor on the server.
fn on<'a>(server: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let all = [
        "process",
        "questions.csv",
        "-o",
        "answers.csv",
        "--model",
        "openai/gpt-4o-mini",
        "--api-base",
        server,
    ];
    [&all, options].concat()
}

#[test]
fn a_429_storm_is_answered_whole_at_the_servers_pace_and_few_requests_are_wasted() {
    let server = Mocklimit::start(50);
    let job = Job::new().questions(400).predictor(ASKING).env("URL", &server.url()).args(["-c", "64"]);
    job.process_with(&["--progress", "json"])
        .expect(0)
        .says(r#""limited_by":"server""#)
        .prints("by the server");
    let report = job.report();
    assert_eq!(report["rows"]["ok"], 400);
    let (requests, refused) = server.requests();
    assert_eq!(requests - refused, 400);
    assert!(requests <= 500, "{requests} requests for 400 rows");
    let wall = report["wall_s"].as_f64().unwrap();
    assert!(wall <= 17.0, "{wall} s");
    assert!(report["limited_s"]["server"].as_f64().unwrap() > 8.0, "{}", report["limited_s"]);

    // What had left before the refusal was known is not early.
    let known = 0.1;
    let calls = job.calls();
    let number = |call: &Value, at: usize| call[at].as_f64().unwrap();
    for refusal in calls.iter().filter(|call| call[2] == 429) {
        let (told, until) = (number(refusal, 1) + known, number(refusal, 1) + number(refusal, 3));
        let early = calls.iter().find(|call| number(call, 0) > told && number(call, 0) < until);
        assert!(early.is_none(), "{early:?} although {refusal}");
    }
}

#[test]
fn dspy_lives_through_the_storm_as_well() {
    const ROWS: usize = 400;
    let server = Limited::start(50, &Fixtures::numbered(ROWS));
    let job = Job::new().questions(ROWS);
    job.run(&on(&server.base_url(), &["-c", "64"])).expect(0).prints("by the server");
    let (requests, refused) = server.requests();
    assert_eq!(requests - refused, ROWS as u64);
    assert!(requests <= 500, "{requests} requests for {ROWS} rows");
    let wall = job.report()["wall_s"].as_f64().unwrap();
    assert!(wall <= 17.0, "{wall} s");
    let arrivals = server.arrivals();
    // One refusal is no storm yet, and what was handed to DSPy before is sent when its loop has the time: up to 8 on
    // a machine with six times the load that it can take. Without regard to Retry-After there were 37 to 77.
    let most = 32;
    for Refusal { at, retry_after } in server.refusals() {
        let until = at + Duration::from_secs(retry_after);
        let early = arrivals.iter().filter(|&&arrival| arrival > at && arrival < until).count();
        assert!(early < most, "{early} requests within a Retry-After of {retry_after} s");
    }
}

#[test]
fn an_outage_costs_few_calls_and_no_row_and_its_end_is_noticed_soon() {
    const ROWS: usize = 1_000;
    let server = Aimock::start(&Fixtures::numbered(ROWS));
    server.chaos(&json!({"latencyMs": 100}));
    let job = Job::new().questions(ROWS);
    let base = server.base_url();
    let mut running = job.spawn(&on(&base, &["-c", "32", "--progress", "json"]));
    running.wait_for("answers.csv.journal", r#""ok""#, 100);
    server.chaos(&json!({"latencyMs": 100, "dropRate": 1.0}));
    running.wait_for(".stderr", r#""limited_by":"outage""#, 1);
    // The outage itself, not a wait for something to happen.
    sleep(Duration::from_secs(6));
    server.chaos(&json!({"latencyMs": 100, "dropRate": 0.0}));
    let ended = Instant::now();
    running.wait().expect(0).prints("by an outage");
    assert!(ended.elapsed() < Duration::from_secs(20), "{:?} after its end", ended.elapsed());
    let requests = server.journal().len();
    assert!((ROWS + 10..=ROWS + ROWS / 10).contains(&requests), "{requests} requests for {ROWS} rows");
    let report = job.report();
    assert_eq!(report["rows"]["ok"], ROWS);
    assert!(report["limited_s"]["outage"].as_f64().unwrap() > 5.0, "{}", report["limited_s"]);
}

#[test]
fn a_server_that_was_never_there_ends_the_run_soon_and_leaves_the_rows_open() {
    let job = Job::new().questions(200);
    let done = job.run(&on("http://127.0.0.1:9/v1", &["-c", "8"])).expect(5);
    done.says("no call has been answered").says("`--api-base`").prints("resume answers.csv");
    let report = job.report();
    assert_eq!([&report["rows"]["failed"], &report["rows"]["unfinished"]], [0, 200]);
}

#[test]
fn a_resume_whose_server_is_gone_speaks_of_its_own_session() {
    let job = Job::new().questions(40).predictor(
        "async def predict(question, row_id):
             if os.path.exists('down'):
                 raise ConnectionError('refused')
             if row_id >= 10:
                 raise ValueError(question)
             return question",
    );
    job.process().expect(3);
    let job = job.file("down", "");
    job.resume().expect(5).says("10 rows answered before").says("no call has been answered in this session");
}

#[test]
fn a_key_refused_at_row_60_costs_no_more_requests_than_are_in_flight_and_no_row() {
    let refuse = json!({"userMessage": "[[ ## question ## ]]\nQuestion 60?\n\n"});
    let error = json!({"error": {"message": "bad key", "type": "invalid_request_error"}, "status": 401});
    let fixtures = (0..60).fold(Fixtures::default(), |fixtures, row| {
        fixtures.answer(&format!("Question {row}?"), &format!("Answer {row}"))
    });
    let fixtures = (61..200).fold(fixtures.fixture(&refuse, &error), |fixtures, row| {
        fixtures.answer(&format!("Question {row}?"), &format!("Answer {row}"))
    });
    let server = Aimock::start(&fixtures);
    let job = Job::new().questions(200);
    let base = server.base_url();
    job.run(&on(&base, &["-c", "8"])).expect(4).says("this error affects every row: LMAuthError");
    let statuses: Vec<_> = server.journal().iter().map(|entry| entry["response"]["status"].clone()).collect();
    let refused = statuses.iter().position(|status| *status == 401).unwrap();
    assert!(statuses.len() - refused - 1 <= 8, "{} requests after the refusal", statuses.len() - refused - 1);
    let rows = job.report()["rows"].clone();
    assert_eq!([&rows["failed"], &rows["ok"]], [&json!(0), &json!(statuses.len() - 1)]);

    let mended = Aimock::start(&Fixtures::numbered(200));
    job.resume_with(&["--api-base", &mended.base_url()]).expect(0);
    assert_eq!(mended.journal().len(), 200 - (statuses.len() - 1), "answered rows are not asked again");
}

#[test]
fn a_retry_after_holds_back_every_row_whatever_form_it_has() {
    let in_two_seconds = "\"${DATE}\"";
    for (told, least) in [("0.7", 0.7), ("\"0.7\"", 0.7), (in_two_seconds, 0.5)] {
        // HTTP dates have whole seconds: two from now are at least one.
        let date = httpdate(Duration::from_secs(2));
        let job = Job::new()
            .questions(40)
            .predictor(RAISING)
            .env("RETRY_AFTER", &told.replace("${DATE}", &date))
            .args(["-c", "1"]);
        job.process().expect(0);
        let calls = job.calls();
        let waited = calls[1][2].as_f64().unwrap() - calls[0][2].as_f64().unwrap();
        assert!(waited >= least, "{told}: {waited} s");
        assert_eq!(calls.len(), 41);
    }
}

#[test]
fn a_retry_after_that_is_no_time_is_backed_off_and_a_huge_one_is_capped_and_said() {
    for told in ["\"soon\"", "-5", "null", "\"nan\"", "[]"] {
        let job =
            Job::new().questions(3).predictor(RAISING).env("RETRY_AFTER", told).args(["--backoff", "10ms"]);
        let done = job.process().expect(0);
        assert!(done.took < Duration::from_secs(20) && job.calls().len() == 4, "{told}: {done:?}");
    }
    let job = Job::new()
        .questions(3)
        .predictor(RAISING)
        .env("RETRY_AFTER", "86400")
        .args(["--backoff-max", "300ms"]);
    job.process().expect(0).says("the server asked to be left alone for").says("(`--backoff-max`)");
}

#[test]
fn rpm_spreads_the_calls_evenly_and_the_report_says_for_how_long() {
    let job = Job::new().questions(20).args(["--rpm", "600"]).predictor(
        "async def predict(question):
             called(time.monotonic())
             return question",
    );
    job.process().expect(0).prints("by --rpm");
    let calls: Vec<f64> = job.calls().iter().map(|at| at.as_f64().unwrap()).collect();
    let span = calls[19] - calls[0];
    assert!(span >= 1.85, "20 calls in {span} s at 10 a second");
    assert!(job.report()["limited_s"]["rpm"].as_f64().unwrap() > 1.5);
}

/// Asks twice a row: first for the reasoning, then for the answer.
const TWO_PARTS: &str = r#"
import dspy
class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.draft, self.polish = dspy.Predict("question -> reasoning"), dspy.Predict("question, reasoning -> answer")
    async def aforward(self, question):
        draft = await self.draft.acall(question=question)
        return await self.polish.acall(question=question, reasoning=draft.reasoning)
predict = Program()
async def twice(question):
    return await predict.acall(question=question)
"#;

#[test]
fn rpm_counts_every_request_of_a_program_of_two_parts() {
    const ROWS: usize = 30;
    let server = Aimock::start(&Fixtures::numbered(ROWS));
    server.chaos(&json!({"latencyMs": 200}));
    let base = server.base_url();
    // A function's requests are not known before the first has told, a module's are those of its parts.
    for (seen, predictor) in ["predict", "twice"].into_iter().enumerate() {
        let job = Job::new().questions(ROWS).predictor(TWO_PARTS);
        let spec = format!("predictor.py:{predictor}");
        job.run(&on(&base, &["--predictor", &spec, "-c", "32", "--rpm", "1200"])).expect(0);
        let mut sent: Vec<_> = server.journal()[seen * 2 * ROWS..]
            .iter()
            .map(|request| request["timestamp"].as_i64().unwrap())
            .collect();
        sent.sort_unstable();
        assert_eq!(sent.len(), 2 * ROWS);
        // 20 a second, two of them the burst; what the machine holds up comes together.
        let crowded = sent.iter().zip(&sent[30..]).filter(|(first, after)| *after - *first < 1_000).count();
        assert_eq!(crowded, 0, "{predictor}: 31 requests within a second: {sent:?}");
        let span = (sent[2 * ROWS - 1] - sent[0]) as f64 / 1e3;
        assert!(span >= 2.75, "{predictor}: 60 requests in {span} s");
        assert_eq!(job.report()["tokens"]["calls"], 2 * ROWS);
    }
}

#[test]
fn tokens_a_minute_hold_back_what_would_use_more() {
    let server = Aimock::start(&Fixtures::numbered(30));
    let job = Job::new().questions(30);
    let base = server.base_url();
    // 110 tokens each, the first ones estimated at 500: 3,300 tokens at 2,000 a second.
    let done = job.run(&on(&base, &["-c", "4", "--tpm", "120000"])).expect(0);
    assert!(job.report()["limited_s"]["tpm"].as_f64().unwrap() > 0.5, "{}", done.stdout);
    assert_eq!(job.report()["tokens"]["input"], 3_000);
}

#[test]
fn a_predictor_that_tells_no_tokens_is_estimated_by_its_text_and_the_run_says_so() {
    let job = Job::new().questions(60).echo().args(["-c", "4", "--tpm", "6000"]);
    let done = job.process().expect(0).says("the predictor does not report its tokens");
    assert_eq!(job.calls().len(), 60);
    // The estimate before the first answers is 500 a call: the whole file would be held back for 5 minutes at that.
    assert!(done.took < Duration::from_secs(60), "{:?}", done.took);
}

/// An HTTP date so long from now (RFC 9110, section 5.6.7).
fn httpdate(from_now: Duration) -> String {
    let date = std::process::Command::new("date")
        .args([
            "-u",
            &format!("+{} %H:%M:%S GMT", "%a, %d %b %Y"),
            "-d",
            &format!("+{} seconds", from_now.as_secs()),
        ])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}
