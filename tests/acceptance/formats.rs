//! What goes in comes out: bytes, types, names, standard input, and the permissions of files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::support::job::Job;

/// A predictor whose answer is always the same, so that whole files can be compared.
const CONSTANT: &str = "async def predict(**row):
    called(row)
    return 'A'";

/// The CSV answers as bytes, the latency, which is the last field, replaced.
fn timeless(job: &Job) -> String {
    let text = String::from_utf8(fs::read(job.path("answers.csv")).unwrap()).unwrap();
    let mut lines = text.split_inclusive('\n');
    let header = lines.next().unwrap().to_owned();
    header
        + &lines.fold(String::new(), |text, line| {
            let end = if line.ends_with("\r\n") { "\r\n" } else { "\n" };
            let delimiter = line.rfind([',', ';']).unwrap();
            assert!(line[delimiter + 1..].trim_end().parse::<f64>().unwrap() >= 0.0);
            text + &line[..=delimiter] + "T" + end
        })
}

#[track_caller]
fn csv_becomes(input: &[u8], options: &[&str], expected: &str) {
    let job = Job::new().file("questions.csv", input).predictor(CONSTANT);
    job.process_with(options).expect(0);
    assert_eq!(timeless(&job), expected);
}

#[test]
fn csv_records_are_copied_byte_for_byte_quotes_blanks_and_all() {
    csv_becomes(
        b"id,\"question\"\n\"7\", x \n08,\"say \"\"hi\"\"\"\n1e3,\xC3\xA9\n",
        &[],
        "id,\"question\",answer,status,error,attempts,latency_ms\n\
         \"7\", x ,A,ok,,1,T\n08,\"say \"\"hi\"\"\",A,ok,,1,T\n1e3,é,A,ok,,1,T\n",
    );
}

#[test]
fn line_ends_of_windows_stay() {
    csv_becomes(
        b"id,question\r\n1,x\r\n2,\"y, z\"\r\n",
        &[],
        "id,question,answer,status,error,attempts,latency_ms\r\n1,x,A,ok,,1,T\r\n2,\"y, z\",A,ok,,1,T\r\n",
    );
}

#[test]
fn another_delimiter_stays() {
    csv_becomes(
        b"id;question\n1;x, y\n",
        &["--delimiter", ";"],
        "id;question;answer;status;error;attempts;latency_ms\n1;x, y;A;ok;;1;T\n",
    );
}

#[test]
fn a_byte_order_mark_is_stripped() {
    csv_becomes(
        b"\xEF\xBB\xBFquestion\nx\n",
        &[],
        "question,answer,status,error,attempts,latency_ms\nx,A,ok,,1,T\n",
    );
}

#[test]
fn another_encoding_becomes_utf_8_for_the_predictor_and_in_the_answers() {
    csv_becomes(
        b"question\ncaf\xE9\n",
        &["--encoding", "latin1"],
        "question,answer,status,error,attempts,latency_ms\ncafé,A,ok,,1,T\n",
    );
    let utf_16: Vec<u8> = "\u{feff}question\ncafé\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let job = Job::new().file("questions.csv", utf_16).echo().args(["--encoding", "utf-16le"]);
    job.process().expect(0);
    assert_eq!(job.calls(), ["café"]);
    assert_eq!(job.column("answer"), ["café"]);
}

#[test]
fn an_answer_with_commas_quotes_and_line_breaks_is_one_field() {
    let job = Job::new().questions(1).predictor("async def predict(question): return 'a,\"b\"\\r\\nc; é'");
    job.process().expect(0);
    assert_eq!(job.column("answer"), ["a,\"b\"\r\nc; é"]);
}

#[test]
fn jsonl_objects_are_copied_byte_for_byte_and_fields_appended() {
    let lines = [
        r#"{"question": "x",  "n":100000000000000000000, "f": 1.0, "nested": {"a":[1, 2]}}"#,
        r#"{"question":"\u00e9","n":1e2,"f":0.10,"nested":null}"#,
    ];
    let job = Job::new().file("questions.jsonl", lines.join("\n")).predictor(CONSTANT);
    job.process_file("questions.jsonl", "answers.jsonl").expect(0);
    let answers = job.read("answers.jsonl");
    for (line, answer) in lines.iter().zip(answers.lines()) {
        assert!(answer.starts_with(line.strip_suffix('}').unwrap()), "{answer}");
    }
    let first = &job.lines("answers.jsonl")[0];
    assert_eq!(
        [&first["answer"], &first["status"], &first["error"]],
        [&json!("A"), &json!("ok"), &Value::Null]
    );
    assert_eq!(first["attempts"], 1);
    assert!(first["latency_ms"].is_number());
}

#[test]
fn jsonl_values_reach_the_predictor_with_their_types() {
    let line = r#"{"question": "x", "i": 3, "f": 1.5, "t": true, "z": null, "l": [1, {"a": "b"}], "big": 100000000000000000000}"#;
    let job = Job::new().file("questions.jsonl", line).predictor(
        "async def predict(**row):
             called({name: [type(value).__name__, value] for name, value in row.items()})
             return 'A'",
    );
    job.process_file("questions.jsonl", "answers.jsonl").expect(0);
    assert_eq!(
        job.calls(),
        [json!({
            "question": ["str", "x"], "i": ["int", 3], "f": ["float", 1.5], "t": ["bool", true],
            "z": ["NoneType", null], "l": ["list", [1, {"a": "b"}]], "big": ["int", 1e20],
        })]
    );
    assert!(job.read("calls").contains("[\"int\", 100000000000000000000]"));
}

#[test]
fn csv_values_reach_the_predictor_as_text() {
    let job = Job::new().file("questions.csv", "question,n,empty\n007,1,\n").predictor(CONSTANT);
    job.process().expect(0);
    assert_eq!(job.calls(), [json!({"question": "007", "n": "1", "empty": ""})]);
}

#[test]
fn csv_becomes_jsonl_with_equal_values() {
    let job = Job::new()
        .file("questions.csv", "id,question\r\n007,\"say \"\"hi\"\",\r\nyou\"\r\n")
        .predictor(CONSTANT);
    job.process_file("questions.csv", "answers.jsonl").expect(0);
    let answer = &job.lines("answers.jsonl")[0];
    assert_eq!([&answer["id"], &answer["question"]], ["007", "say \"hi\",\r\nyou"]);
    assert_eq!([&answer["answer"], &answer["status"]], ["A", "ok"]);
}

#[test]
fn jsonl_becomes_csv_with_nested_values_as_json() {
    let lines = "{\"question\":\"a, b\",\"l\":[1,{\"a\":\"b\"}]}\n{\"question\":\"c\",\"more\":true}\n";
    let job = Job::new().file("questions.jsonl", lines).predictor(CONSTANT);
    job.process_file("questions.jsonl", "answers.csv").expect(0);
    let answers = job.answers();
    assert_eq!([&*answers[0]["question"], &*answers[0]["more"]], ["a, b", ""]);
    assert_eq!(serde_json::from_str::<Value>(&answers[0]["l"]).unwrap(), json!([1, {"a": "b"}]));
    assert_eq!([&*answers[1]["l"], &*answers[1]["more"]], ["", "true"]);
}

#[test]
fn a_name_that_the_input_has_is_left_alone_and_ours_is_renamed_with_a_warning() {
    let job = Job::new().echo().file("questions.csv", "question,answer,status,predicted_answer\nq,a,s,p\n");
    job.process()
        .expect(0)
        .says("warning: the name `answer` is taken: that column is written as `predicted_predicted_answer`")
        .says("warning: the name `status` is taken: that column is written as `run_status`");
    let header =
        "question,answer,status,predicted_answer,predicted_predicted_answer,run_status,error,attempts,";
    assert!(job.read("answers.csv").starts_with(header), "{}", job.read("answers.csv"));
    let answer = &job.answers()[0];
    assert_eq!([&*answer["answer"], &*answer["status"], &*answer["predicted_answer"]], ["a", "s", "p"]);
    assert_eq!([&*answer["predicted_predicted_answer"], &*answer["run_status"]], ["q", "ok"]);
}

#[test]
fn a_field_of_the_predictor_gives_way_to_our_columns() {
    let job = Job::new().questions(1).predictor("async def predict(question): return {'status': 'fine'}");
    job.process().expect(0);
    let answer = &job.answers()[0];
    assert_eq!([&*answer["predicted_status"], &*answer["status"]], ["fine", "ok"]);
}

#[test]
fn standard_input_is_read_with_a_format_and_not_kept_once_every_row_is_answered() {
    let job = Job::new().echo().stdin("question\na\nb\n").args(["--format", "csv"]);
    job.process_file("-", "answers.csv").expect(0);
    assert_eq!(job.column("answer"), ["a", "b"]);
    assert!(!job.path("answers.csv.input").exists());
}

#[test]
fn standard_input_is_kept_for_resume_until_every_row_is_answered() {
    let fails = "async def predict(question):
    called(question)
    if question == 'b' and not os.path.exists('mended'):
        raise ValueError(question)
    return question";
    let job = Job::new().predictor(fails).stdin("{\"question\":\"a\"}\n{\"question\":\"b\"}\n");
    job.run(&[
        "process",
        "-",
        "--format",
        "jsonl",
        "-o",
        "answers.csv",
        "--predictor",
        "predictor.py:predict",
    ])
    .expect(3);
    assert_eq!(job.read("answers.csv.input"), "{\"question\":\"a\"}\n{\"question\":\"b\"}\n");
    let mode = fs::metadata(job.path("answers.csv.input")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let job = job.file("mended", "");
    job.resume().expect(0);
    assert_eq!(job.calls(), ["a", "b", "b"]);
    assert_eq!(job.column("answer"), ["a", "b"]);
    assert!(!job.path("answers.csv.input").exists());
}

#[test]
fn standard_input_without_a_format_is_refused() {
    let job = Job::new().echo().stdin("question\na\n");
    job.process_file("-", "answers.csv").expect(2).says("--format csv");
    assert_eq!(job.files(), ["predictor.py"]);
}

const FAILS_ONCE: &str = "async def predict(question):
    if question.startswith('Question 1') and not os.path.exists('mended'):
        raise ValueError(question)
    return question";

/// The modes of the job's answers and of what stands beside them, by name.
fn modes(job: &Job) -> Vec<(String, u32)> {
    let mode = |name: String| {
        let mode = fs::metadata(job.path(&name)).unwrap().permissions().mode() & 0o777;
        (name, mode)
    };
    job.files().into_iter().filter(|name| name.contains("answers")).map(mode).collect()
}

fn all(modes: &[(&str, u32)]) -> Vec<(String, u32)> {
    modes.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect()
}

#[test]
fn new_files_have_the_mode_that_the_umask_leaves_and_the_journal_is_its_owners() {
    let job = Job::new().questions(3).predictor(FAILS_ONCE);
    let run =
        "\"$PROGRAM\" process - --format csv -o answers.csv --predictor predictor.py:predict < questions.csv";
    job.bash(&format!("umask 027; {run}")).expect(3);
    let [answers, input, journal, page, report] = [
        "answers.csv",
        "answers.csv.input",
        "answers.csv.journal",
        "answers.csv.report.html",
        "answers.csv.report.json",
    ];
    let expected = [(answers, 0o640), (input, 0o600), (journal, 0o600), (page, 0o640), (report, 0o640)];
    assert_eq!(modes(&job), all(&expected));

    let files =
        "report answers.csv --json new.json --html new.html && \"$PROGRAM\" export answers.csv -o new.csv";
    job.bash(&format!("umask 022; \"$PROGRAM\" {files}")).expect(0);
    for name in ["new.json", "new.html", "new.csv"] {
        assert_eq!(fs::metadata(job.path(name)).unwrap().permissions().mode() & 0o777, 0o644, "{name}");
    }

    // Those that are there keep theirs.
    fs::set_permissions(job.path(answers), fs::Permissions::from_mode(0o604)).unwrap();
    let job = job.file("mended", "");
    job.bash("umask 077; \"$PROGRAM\" resume answers.csv").expect(0);
    assert_eq!(modes(&job), all(&[(answers, 0o604), (journal, 0o600), (page, 0o640), (report, 0o640)]));
}

#[test]
fn a_private_jobs_files_are_its_owners_alone_also_those_of_later_commands() {
    for private in ["TAB_PRIVATE=1 \"$PROGRAM\" process", "\"$PROGRAM\" process --private"] {
        let job = Job::new().questions(3).predictor(FAILS_ONCE).file("answers.csv", "");
        let run = "questions.csv -o answers.csv --predictor predictor.py:predict";
        job.bash(&format!("umask 000; {private} {run}")).expect(3);
        let job = job.file("mended", "");
        let later = "\"$PROGRAM\" resume answers.csv && \"$PROGRAM\" export answers.csv -o answers-2.jsonl && \
                     \"$PROGRAM\" report answers.csv --json answers.json --html answers.html";
        job.bash(&format!("umask 000; {later}")).expect(0);
        let modes = modes(&job);
        assert_eq!(modes.len(), 7);
        assert!(modes.iter().all(|(_, mode)| *mode == 0o600), "{modes:?}");
    }
}

#[test]
fn a_named_pipe_and_process_substitution_are_kept_for_resume_as_standard_input_is() {
    for (input, format) in [("<(cat source)", "--format jsonl"), ("pipe.jsonl", "")] {
        let job = Job::new().predictor(FAILS_ONCE);
        let job = job.file("source", "{\"question\":\"a\"}\n{\"question\":\"Question 1\"}\n");
        let feed = "mkfifo pipe.jsonl; cat source > pipe.jsonl & ";
        let feed = if format.is_empty() { feed } else { "" };
        let run = format!("process {input} {format} -o answers.csv --predictor predictor.py:predict");
        job.bash(&format!("{feed}\"$PROGRAM\" {run}")).expect(3);
        assert_eq!(job.read("answers.csv.input"), job.read("source"));
        let job = job.file("mended", "");
        job.resume().expect(0);
        assert_eq!(job.column("answer"), ["a", "Question 1"]);
        assert!(!job.path("answers.csv.input").exists());
    }
}

#[test]
fn a_pipe_whose_name_tells_no_format_is_refused_and_so_is_one_that_would_be_read_twice() {
    let job = Job::new().questions(1).echo();
    let end = "--predictor predictor.py:predict";
    let refused = |run: &str, text: &str| job.bash(&format!("\"$PROGRAM\" {run} {end}")).expect(2).says(text);
    refused("process <(cat questions.csv) -o answers.csv", "give `--format csv` or `--format jsonl`");
    refused("compare <(cat questions.csv) --format csv", "`compare` reads its input once for each run");
    assert!(!job.path("answers.csv").exists() && job.calls().is_empty());
    job.bash(&format!("\"$PROGRAM\" process <(cat questions.csv) --format csv {end}")).expect(0);
    assert_eq!(job.column_of("stdin.answers.csv", "answer"), ["Question 0?"]);
}

#[test]
fn without_arguments_the_three_uses_are_shown() {
    let done = Job::new().run::<&str>(&[]).expect(0);
    for command in ["process", "compare", "resume"] {
        assert!(done.stdout.contains(&format!("tokio-asyncio-bridge {command} ")), "{}", done.stdout);
    }
    assert_eq!(done.stderr, "");
}
