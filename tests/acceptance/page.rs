//! The report as a page, looked at with a real browser. The figures on it are those of the JSON.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use super::support::browser::show;
use super::support::job::Job;

const PAGE: &str = "answers.csv.report.html";
/// The largest page there may be, whatever the run.
const LARGEST: u64 = 300_000;

/// A job on the fake bridge, with failures and retries.
fn scripted(rows: usize, script: &str) -> Job {
    let job = Job::new().questions(rows);
    let script = format!("fake:seed=4,{script},transient=0.1,permanent=0.05");
    let process = ["process", "questions.csv", "-o", "answers.csv", "-c", "8", "--backoff", "10ms"];
    let done = job.run(&[&process[..], &["--max-failures", "100%", "--bridge", &script]].concat());
    assert!(matches!(done.code, 0 | 3), "{}", done.stderr);
    job
}

/// The ids of the page's sections, which must all be there.
#[track_caller]
fn has_sections(dom: &str, ids: &[&str]) {
    for id in ids {
        assert!(dom.contains(&format!("<section id=\"{id}\"")), "no section `{id}`");
    }
}

#[test]
fn a_browser_shows_every_section_and_has_nothing_to_complain_of() {
    let job = scripted(60, "min=5ms,max=20ms");
    let shown = show(&job.path(PAGE));
    assert_eq!(shown.console, Vec::<String>::new());
    has_sections(&shown.dom, &["throughput", "in-flight", "latency", "rows", "shares"]);
    has_sections(&shown.dom, &["errors", "retries", "classes", "slowest", "settings"]);
    let report = job.report();
    let answered = format!("<dt>answered</dt><dd>{}<small>of 60 rows</small>", report["rows"]["ok"]);
    assert!(shown.dom.contains(&answered), "no `{answered}`");
    // Of a small run every row is drawn.
    for row in 0..60 {
        assert!(shown.dom.contains(&format!("<title>row {row}: ")), "row {row} is not drawn");
    }
    let charts = shown.dom.matches("role=\"img\"").count();
    assert_eq!((charts, shown.dom.matches("aria-label=\"").count() - 1), (7, 7), "a chart without words");
}

#[test]
fn the_browser_does_complain_of_a_style_that_the_policy_does_not_name() {
    let job = scripted(3, "min=1ms");
    let page = job.read(PAGE);
    let bad = job.file("bad.html", page.replace("<style>:root", "<style>html"));
    assert!(!show(&bad.path("bad.html")).console.is_empty());
}

#[test]
fn a_page_loads_nothing_and_runs_nothing() {
    let page = scripted(3, "min=1ms").read(PAGE);
    assert!(page.contains("content=\"default-src 'none'; style-src 'sha256-"));
    for live in [
        "<script",
        "<link",
        "<img",
        "<iframe",
        "src=",
        "href=",
        "url(",
        "@import",
        "javascript:",
        " onload=",
        " onerror=",
        " style=",
    ] {
        let tags = page.split('<').skip(1).filter_map(|tag| tag.split('>').next());
        let tags: Vec<_> = tags.filter(|tag| format!("<{tag}").contains(live)).collect();
        assert!(tags.is_empty(), "`{live}` in {tags:?}");
    }
}

#[test]
fn a_large_run_has_a_small_page_with_a_density_in_place_of_its_rows() {
    let job = scripted(100_000, "min=0ms");
    assert!(fs::metadata(job.path(PAGE)).unwrap().len() < LARGEST);
    let shown = show(&job.path(PAGE));
    assert_eq!(shown.console, Vec::<String>::new());
    has_sections(&shown.dom, &["throughput", "in-flight", "latency", "rows", "errors", "slowest"]);
    assert!(shown.dom.contains("Rows over time") && !shown.dom.contains("<title>row "));
}

#[test]
fn a_row_that_waited_long_for_its_second_attempt_is_the_slowest() {
    // One call at a time: the first row's second attempt waits for the whole of the other row's call.
    let job = Job::new().questions(2).predictor(
        "
async def predict(question, row_id, attempt):
    called(row_id)
    if row_id == 1:
        await asyncio.sleep(0.3)
    elif attempt == 1:
        raise ConnectionError('dropped')
    return question
",
    );
    job.process_with(&["-c", "1", "--backoff", "1ms"]).expect(0);
    assert_eq!(job.calls(), [0, 1, 0]);
    let page = job.read(PAGE);
    // What it waited for its turn is not drawn as its backoff.
    let width = |kind: &str| -> f64 {
        let bars = page.split("<rect ").filter(|bar| bar.contains(&format!("class=\"{kind}\"")));
        let bars = bars.filter(|bar| bar.contains("<title>row 0: "));
        let widths = bars.map(|bar| bar.split("width=\"").nth(1).unwrap().split('%').next().unwrap());
        widths.map(|width| width.parse::<f64>().unwrap()).sum()
    };
    assert!(width("queued") > 5.0 * width("backoff"), "{} {}", width("queued"), width("backoff"));
    assert!(width("queued") > 50.0 && width("backoff") > 0.0, "{}", width("queued"));
    // Every attempt is recorded, and drawn where it was.
    assert!(!page.contains("drawn as one") && !page.contains("spread"));
    let slowest = page.split_once("<h2>Slowest rows</h2>").unwrap().1;
    let rows: Vec<_> = slowest.split("<th scope=\"row\">").skip(1).take(2).collect();
    assert!(rows[0].starts_with("0<") && rows[1].starts_with("1<"), "{rows:?}");
    let cells: Vec<_> = rows[0].split("<td>").skip(1).map(|cell| cell.split('<').next().unwrap()).collect();
    assert!(cells[0].ends_with(" ms") && cells[1].ends_with(" ms"), "in all, waited: {cells:?}");
}

#[test]
fn a_page_opens_with_what_held_the_run_up_and_lists_what_failed_on_the_way() {
    let job = Job::new().questions(12).predictor(
        "
class Busy(Exception):
    status, retry_after = 429, 1.5

async def predict(question, row_id, attempt):
    called(row_id)
    if attempt == 1:
        raise Busy(f'slow down, row {row_id}')
    await asyncio.sleep(0.01)
    return question
",
    );
    job.process_with(&["-c", "4", "--backoff", "1ms"]).expect(0).prints("  whole row ");
    assert_eq!(job.report()["attempts"]["by_status"], serde_json::json!({ "429": 12 }));
    valid(&job.report());
    let shown = show(&job.path(PAGE));
    assert_eq!(shown.console, Vec::<String>::new());
    let verdict = shown.dom.split("<p class=\"verdict\">").nth(1).expect("a verdict");
    let verdict = verdict.split('<').next().unwrap();
    assert!(verdict.contains(" s held back by the server: 12 x 429"), "{verdict}");
    assert!(shown.dom.find("verdict\">") < shown.dom.find("<section"), "it comes first");
    // Beside the calls' own latency, which has no wait in it, stands the rows'.
    let figure = |name: &str| {
        let rest =
            shown.dom.split(&format!("<dt>{name}</dt><dd>")).nth(1).unwrap_or_else(|| panic!("no {name}"));
        rest.split("<small>").next().unwrap().to_owned()
    };
    assert!(figure("median latency").ends_with(" ms"), "{}", figure("median latency"));
    assert!(!figure("median row").is_empty());
    // The rows are answered: of what failed on the way, the class has its message and each attempt its line.
    let classes =
        shown.dom.split("<section id=\"classes\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert_eq!(classes.matches(": slow down, row ").count(), 1, "{classes}");
    let failures =
        shown.dom.split("<section id=\"failures\"").nth(1).unwrap().split("</section>").next().unwrap();
    for row in 0..12 {
        assert_eq!(failures.matches(&format!("Busy: slow down, row {row} ")).count(), 1, "{failures}");
    }
    // Also from the journal alone.
    std::fs::remove_file(job.path("answers.csv.report.json")).unwrap();
    job.run(&["report", "answers.csv", "--html", "again.html"]).expect(0);
    assert!(job.read("again.html").contains("Busy: slow down, row 1"));
}

/// What must not come alive, in a browser or in a terminal.
const HOSTILE: [&str; 20] = [
    "<script>document.title='owned'</script>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(2)</script>",
    "</text></svg><img src=x onerror=alert(3)>",
    "<img src=http://127.0.0.1:9/pixel.png>",
    "\"><svg onload=alert(4)>",
    "' onmouseover='alert(5)",
    "<iframe src=\"javascript:alert(6)\"></iframe>",
    "<a href=javascript:alert(7)>x</a>",
    "<style>*{display:none}</style>",
    "<meta http-equiv=refresh content=0>",
    "<!-- ]]> -->",
    "&lt;script&gt;alert(8)&lt;/script&gt;",
    "{{ 7 * 7 }}{% include \"/etc/passwd\" %}",
    "\u{1b}[2J\u{1b}[31mred",
    "\u{1b}]0;title\u{7}",
    "\u{1b}]8;;http://127.0.0.1:9/\u{1b}\\link\u{1b}]8;;\u{1b}\\",
    "\u{9b}31m\u{90}q",
    "\u{202e}gnp.exe\u{2066}\u{200f}",
    "one\r\u{8}\u{8}two\0\u{7f}",
];

/// Twenty hostile texts as answers, or raised, or raised as the class of an error; in the names of files and columns
/// too.
fn planted() -> Job {
    let rows: String = HOSTILE
        .iter()
        .chain(&HOSTILE)
        .chain(&HOSTILE)
        .map(|text| serde_json::json!({ "question": text }).to_string() + "\n")
        .collect();
    let job = Job::new().file("<b>\u{1b}[31m.jsonl", rows).predictor(
        "
async def predict(question, row_id):
    called(row_id)
    if row_id < 20:
        return {'answer': question, question.replace('\\0', '') + 'field': question}
    if row_id < 40:
        raise ValueError(question)
    raise type(question.replace('\\0', '') or 'X', (ValueError,), {})(question)
",
    );
    job.env("TAB_MAX_FAILURES", "100%").args(["-v"])
}

/// No control character but the line feed, none that changes the direction of text.
#[track_caller]
fn is_harmless(text: &str, what: &str) {
    let unsafe_ = |c: &char| {
        (c.is_control() && *c != '\n')
            || ('\u{202a}'..='\u{202e}').contains(c)
            || ('\u{2066}'..='\u{2069}').contains(c)
            || *c == '\u{200f}'
    };
    let found: Vec<_> = text.chars().filter(unsafe_).collect();
    assert!(found.is_empty(), "{found:?} in {what}: {text}");
}

#[test]
fn twenty_hostile_texts_come_alive_neither_in_the_page_nor_in_the_terminal() {
    let job = planted();
    let (input, answers) = ("<b>\u{1b}[31m.jsonl", "<i>\u{1b}[32m.jsonl");
    let done = job.process_file(input, answers).expect(3);
    is_harmless(&(done.stdout + &done.stderr), "process");
    let name = format!("{answers}.report.html");
    let page = job.read(&name);
    is_harmless(&page, "the page");
    assert!(
        page.contains("&#60;script&#62;") && page.contains(r"\u{1b}[2J"),
        "what is foreign is shown, escaped"
    );
    let shown = show(&job.path(&name));
    assert_eq!(shown.console, Vec::<String>::new());
    for live in
        ["<script", "<img", "<iframe", "<a ", "<b>", "<i>", "onload=\"", "onerror=\"", "onmouseover=\""]
    {
        assert!(!shown.dom.contains(live), "{live} is alive in the page");
    }
    assert_eq!(shown.dom.matches("<meta").count(), 5);
    assert_eq!(shown.dom.matches("<style").count(), 1);
    let json = ["--progress", "json"];
    for command in
        [&["resume", answers][..], &["report", answers], &["export", answers], &["verify", input, answers]]
    {
        let done = job.run(command);
        is_harmless(&(done.stdout + &done.stderr), command[0]);
    }
    let done = job.run(&[&["resume", answers][..], &json].concat()).expect(3);
    is_harmless(&(done.stdout + &done.stderr), "resume --progress json");
    for refused in [
        &["resume", input][..],
        &["report", input],
        &["process", "\u{1b}[2J.csv"],
        &["verify", "\u{1b}[2J.csv", answers],
    ] {
        let done = job.run(refused);
        assert_ne!(done.code, 0);
        is_harmless(&(done.stdout + &done.stderr), refused[0]);
    }
}

#[test]
fn no_page_is_written_where_none_is_wanted_and_resume_keeps_to_that() {
    let job = Job::new().questions(3).predictor(
        "async def predict(question):\n    called(question)\n    if not os.path.exists('go'): raise ValueError\n    return question\n",
    );
    job.process_with(&["--no-html"]).expect(3);
    job.resume().expect(3);
    assert!(!job.path(PAGE).exists());
    job.resume_with(&["--html"]).expect(3).prints(PAGE);
    assert!(job.path(PAGE).exists());
    let job = Job::new().questions(3).echo().env("TAB_NO_HTML", "1");
    job.process().expect(0);
    assert!(!job.path(PAGE).exists());
    job.process_with(&["--html", "--force"]).expect(0);
    assert!(job.path(PAGE).exists());
}

#[test]
fn a_variable_that_wants_no_page_is_kept_for_resume() {
    let directory = Job::new().questions(3).predictor(
        "async def predict(question):\n    if not os.path.exists('go'): raise ValueError\n    return question\n",
    );
    let job = directory.env("TAB_NO_HTML", "yes");
    job.process().expect(3);
    let job = job.env("TAB_NO_HTML", "");
    job.resume().expect(3);
    assert!(!job.path(PAGE).exists());
    job.resume_with(&["--html"]).expect(3);
    assert!(job.path(PAGE).exists());
    let both = Job::new().questions(1).echo().env("TAB_NO_HTML", "1").env("TAB_HTML", "1");
    both.process().expect(2).says("`TAB_HTML` and `TAB_NO_HTML` cannot both be set");
    let help = both.run(&["help", "process"]).expect(0).stdout;
    for variable in ["TAB_HTML", "TAB_NO_HTML", "TAB_SEQUENTIAL", "TAB_CONCURRENT"] {
        assert!(help.contains(&format!("set `{variable}`")), "{help}");
    }
}

/// A job killed with ten rows answered and one in flight.
fn killed() -> Job {
    let job = Job::new().questions(20).env("TAB_CONCURRENCY", "1").predictor(
        "async def predict(question):\n    called(question)\n    await asyncio.sleep(60 if '10' in question else 0.01)\n    return question\n",
    );
    let mut running = job.start();
    running.wait_for_calls(11);
    running.wait_for("answers.csv.journal", "\"outcome\"", 10);
    job.run(&["report", "answers.csv"]).expect(0).prints("Stopped        the run still goes on");
    running.signal(Signal::KILL);
    running.wait();
    job
}

#[test]
fn a_killed_session_is_reported_from_its_journal() {
    let job = killed();
    assert!(!job.path("answers.csv.report.json").exists());
    let done = job.run(&["report", "answers.csv", "--html", "page.html", "--json", "report.json"]).expect(0);
    let done = done.prints("Answered 10 of 20 rows in ").prints("did not end in order");
    assert!(done.stdout.contains("Unfinished     10 rows"), "{}", done.stdout);
    let shown = show(&job.path("page.html"));
    assert_eq!(shown.console, Vec::<String>::new());
    has_sections(&shown.dom, &["throughput", "rows", "slowest", "settings"]);
    let report: serde_json::Value = serde_json::from_str(&job.read("report.json")).unwrap();
    valid(&report);
    assert_eq!((&report["rows"]["ok"], &report["concurrency"]["requested"]), (&10.into(), &1.into()));
    assert_eq!(report["run"]["bridge"], "python");
}

/// The report is what its published schema says.
#[track_caller]
fn valid(report: &serde_json::Value) {
    let schema = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/report.schema.json"));
    let schema: serde_json::Value = serde_json::from_str(&schema.unwrap()).unwrap();
    let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap();
    let faults: Vec<_> = validator.iter_errors(report).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn the_reports_of_real_runs_are_what_their_schema_says() {
    valid(&scripted(30, "min=1ms,max=3ms").report());
    let job = Job::new().questions(3).echo();
    job.process().expect(0);
    valid(&job.report());
    job.resume().expect(0);
    valid(&job.report());
}

#[test]
fn a_run_stopped_before_its_first_answer_has_a_page_too() {
    let job = Job::new().file("questions.csv", "question\n\n \n\n").echo();
    let job = job.file("questions.csv", "id,question\n1,\n2, \n");
    job.process().expect(3);
    let shown = show(&job.path(PAGE));
    assert_eq!(shown.console, Vec::<String>::new());
    assert!(shown.dom.contains("No call was made."), "{}", shown.dom);
}
