//! A prompt or a source file that changed between two sessions of a job, through `process` and `resume`.

use std::fs;

use serde_json::{Value, json};

use super::support::http::{Scripted, answer, reply};
use super::support::job::{Done, Job};

/// A DSPy module with these instructions and the demos that `demos.json` holds.
fn program(signature: &str, instructions: &str) -> String {
    format!(
        "import json, os\nimport dspy\n\
         predict = dspy.ChainOfThought(dspy.Signature({signature:?}, {instructions}))\n\
         predict.predict.demos = [dspy.Example(**demo) for demo in json.load(open('demos.json'))]\n"
    )
}

const FIELDS: &str = "question -> answer";
const DEMO: &str = r#"[{"question": "1+1?", "reasoning": "Counted.", "answer": "2"}]"#;

/// A job of four questions of which the first two are answered by a program with these instructions.
fn begun(server: &Scripted, instructions: &str) -> Job {
    let job =
        Job::new().questions(4).file("program.py", program(FIELDS, instructions)).file("demos.json", DEMO);
    ask(&job, server, &["-n", "2"]).expect(0);
    job
}

fn ask(job: &Job, server: &Scripted, options: &[&str]) -> Done {
    let base = server.base_url();
    let all = ["process", "questions.csv", "-o", "answers.csv", "--predictor", "program.py:predict"];
    let model = ["--model", "openai/gpt-4o-mini", "--api-base", &base, "--retries", "0", "-c", "1"];
    job.run(&[&all[..], &model, options].concat())
}

/// The headers of all sessions, each once.
fn headers(job: &Job) -> Vec<Value> {
    let journal = job.read("answers.csv.journal");
    let records = journal.lines().filter_map(|line| line.get(9..));
    let headers = records.filter(|json| json.starts_with("{\"header\""));
    let mut headers: Vec<Value> = headers.map(|json| serde_json::from_str(json).unwrap()).collect();
    headers.dedup();
    headers.into_iter().map(|header| header["header"].clone()).collect()
}

#[test]
fn changed_instructions_are_refused_with_both_texts_and_the_rows_under_each_are_told() {
    let server = Scripted::start(|question, _| answer(question));
    let job = begun(&server, "'Answer in one word.'");
    let journal = job.read("answers.csv.journal");
    let job = job.file("program.py", program(FIELDS, "'Answer in one sentence.'"));
    let changed = "the instructions of `predict` were `Answer in one word.` in the earlier run and are \
                   `Answer in one sentence.` now";
    ask(&job, &server, &[])
        .expect(1)
        .says(changed)
        .says("hint: restore it, start anew with `--force`, or go on");
    // Also where every row is answered, and in a dry run.
    ask(&job, &server, &["-n", "2"]).expect(1).says(changed);
    ask(&job, &server, &["--dry-run"]).expect(1).says(changed);
    job.resume_with(&["-n", "4"]).expect(1).says(changed);
    assert_eq!(
        (server.asked(), job.read("answers.csv.journal")),
        (vec![0, 1], journal),
        "nothing was called"
    );

    let done = ask(&job, &server, &["--allow-changed"]).expect(0);
    done.says(&format!("{changed}: earlier answers stay"))
        .prints("2 versions: 2 rows answered by the first, 2 by the second")
        .prints("(changed: instructions of `predict`, `program.py`)");
    assert_eq!(server.asked(), [0, 1, 2, 3]);
    let versions = job.report()["predictor_versions"].clone();
    let rows: Vec<_> = versions.as_array().unwrap().iter().map(|version| &version["rows"]).collect();
    assert_eq!(rows, [&json!([[0, 2]]), &json!([[2, 4]])]);
    assert_eq!(versions[1]["changed"], json!(["instructions of `predict`", "`program.py`"]));
    assert!(job.read("answers.csv.report.html").contains("2 versions: 2 rows answered by the first"));
    fs::remove_file(job.path("answers.csv.report.json")).unwrap();
    job.run(&["report", "answers.csv", "--json", "again.json"]).expect(0).prints("2 versions: 2 rows");
    let again: Value = serde_json::from_str(&job.read("again.json")).unwrap();
    assert_eq!(again["predictor_versions"], versions, "the journal alone tells it too");
    job.resume().expect(0);
    assert_eq!(server.asked().len(), 4, "the last session's prompt is that of the job now");
}

#[test]
fn changed_demos_are_refused_and_resume_goes_on_where_it_may() {
    let server = Scripted::start(|question, _| answer(question));
    let job = begun(&server, "'Be brief.'");
    let job = job.file("demos.json", DEMO.replace("Counted", "Guessed"));
    let changed =
        r#"the demos of `predict` were `…"1+1?", "reasoning": "Counted."}` in the earlier run and are "#;
    job.resume_with(&["-n", "4"]).expect(1).says(changed).says(r#""Guessed."}` now"#);
    let job = job.file("demos.json", "[]");
    ask(&job, &server, &[])
        .expect(1)
        .says("the demos of `predict` were `1 demo ")
        .says("and are `0 demos` now");
    assert_eq!(server.asked().len(), 2);
    job.resume_with(&["-n", "4", "--allow-changed"]).expect(0);
    assert_eq!(server.asked().len(), 4);
    assert_eq!(job.report()["predictor_versions"][1]["changed"], json!(["demos of `predict`"]));
}

#[test]
fn a_changed_field_is_refused_by_process_and_resume() {
    let server = Scripted::start(|question, _| answer(question));
    let job = begun(&server, "'Be brief.'");
    let job = job.file("program.py", program("question -> answer: int", "'Be brief.'"));
    let changed = "the signature of `predict` was `question: str -> reasoning: str, answer: str` in the earlier run \
                   and is `question: str -> reasoning: str, answer: int` now";
    ask(&job, &server, &[]).expect(1).says(changed);
    job.resume_with(&["-n", "4"]).expect(1).says(changed);
    let described = program(FIELDS, "'Be brief.'")
        + "predict.predict.signature = predict.predict.signature.with_updated_fields('answer', desc='A town')\n";
    let job = job.file("program.py", described);
    ask(&job, &server, &[]).expect(1).says("answer: A town` now");
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_changed_source_file_is_one_warning_that_names_it_and_the_same_bytes_are_none() {
    let warning = "the predictor's source has changed since the last session";
    let predictor = "from helper import shout\nasync def predict(question):\n    called(question)\n    \
                     open('template').read()\n    return shout(question)\n";
    let helper = "def shout(text):\n    return text.upper()\n";
    let job = Job::new().questions(9).predictor(predictor).file("helper.py", helper).file("template", "a");
    job.process_with(&["-n", "1"]).expect(0);
    // Written again, and something that only a call reads.
    let job = job.file("helper.py", helper).file("template", "b").predictor(predictor);
    let said = |done: Done| done.stderr.matches(warning).count();
    assert_eq!(said(job.process_with(&["-n", "2"]).expect(0)), 0);
    assert_eq!(said(job.resume_with(&["-n", "3"]).expect(0)), 0);

    let job = job.file("helper.py", format!("{helper}# mended\n"));
    let done = job.process_with(&["-n", "4"]).expect(0).says(&format!("{warning}: `helper.py`\n"));
    assert_eq!(said(done), 1);
    assert_eq!(said(job.process_with(&["-n", "5"]).expect(0)), 0, "it is told once");
    let job = job.file("helper.py", helper).predictor(&format!("{predictor}# mended\n"));
    let done =
        job.resume_with(&["-n", "6"]).expect(0).says(&format!("{warning}: `helper.py`, `predictor.py`\n"));
    assert_eq!(said(done), 1);
    // Where all is answered too, and then never again.
    let job = job.predictor(predictor);
    assert_eq!(said(job.process_with(&["-n", "6"]).expect(0)), 1);
    job.process_with(&["-n", "6"]).expect(0).says("nothing to do");
    assert_eq!(job.calls().len(), 6, "no row was called twice");
    let versions = job.report()["predictor_versions"].clone();
    let told = |at: usize| (versions[at]["answered"].as_u64().unwrap(), versions[at]["rows"].clone());
    assert_eq!(
        [told(0), told(1), told(2)],
        [(3, json!([[0, 3]])), (2, json!([[3, 5]])), (1, json!([[5, 6]]))]
    );
    assert_eq!(versions[1]["changed"], json!(["`helper.py`"]));
}

#[test]
fn a_changed_program_says_what_changed_within_it() {
    let server = Scripted::start(|question, _| answer(question));
    let save = format!(
        "{}predict.save('program.json')\npredict.predict.demos = []\npredict.save('other.json')\n",
        program(FIELDS, "'Be brief.'")
    );
    let job = Job::new().questions(2).file("program.py", save).file("demos.json", DEMO);
    ask(&job, &server, &["-n", "1", "-o", "first.csv"]).expect(0);
    let base = server.base_url();
    let loaded =
        ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/m", "--api-base", &base];
    job.run(&[&loaded[..], &["--program", "program.json", "-n", "1"]].concat()).expect(0);
    fs::copy(job.path("other.json"), job.path("program.json")).unwrap();
    job.run(&[&loaded[..], &["--program", "program.json"]].concat())
        .expect(1)
        .says("`--program` was `sha256 ")
        .says("; the demos of `predict` were `1 demo ");
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn secrets_in_a_prompt_are_masked_and_no_hash_depends_on_them() {
    let server = Scripted::start(|question, _| answer(question));
    let instructions = "'Say ' + os.environ['HOUSE_TOKEN'] + ' first.'";
    let job =
        Job::new().questions(2).file("program.py", program(FIELDS, instructions)).file("demos.json", "[]");
    let job = job.env("HOUSE_TOKEN", "abracadabra");
    ask(&job, &server, &["-n", "1"]).expect(0);
    let job = job.env("HOUSE_TOKEN", "opensesame");
    ask(&job, &server, &[]).expect(0);
    let journal = job.read("answers.csv.journal");
    assert!(journal.contains("Say *** first."));
    assert!(!journal.contains("abracadabra") && !journal.contains("opensesame"));
}

/// Nothing in it has an order, or an address, that two processes share.
const RESTLESS: &str = r#"
import dspy
import pydantic
from typing import Literal

LABELS = {"red", "green", "blue", "yellow", "violet", "black"}

class Paint(pydantic.BaseModel):
    """A colour."""
    names: set[str] = {"a", "b", "c", "d", "e"}
    mixed: frozenset[int] = frozenset(range(9))

def look_up(name: str, how=object(), where: set = LABELS) -> str:
    """Looks a name up."""
    return name

signature = dspy.Signature(
    "question -> answer", f"One of {LABELS}, or what {look_up} and {object()} tell."
).append("paint", dspy.InputField(default=Paint()), type_=Paint).append(
    "colour", dspy.OutputField(), type_=Literal[tuple(LABELS)]
)
demos = [dspy.Example(question="Which?", labels=LABELS, made=object(), paint=Paint(), answer="red")]

def thinking():
    module = dspy.ChainOfThought(signature)
    module.predict.demos = demos
    return module

def acting():
    return dspy.ReAct(signature, tools=[look_up])

class Step(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict(signature)
        self.ask.demos = demos

class Nested(dspy.Module):
    def __init__(self):
        super().__init__()
        self.steps = [Step(), Step()]
        self.steps[1]._compiled = True
        self.named = {"first": thinking()}
    async def aforward(self, question):
        return await self.steps[0].ask.acall(question=question)

chain, react, nested = thinking(), acting(), Nested()
"#;

#[test]
fn two_starts_of_the_same_program_are_the_same_whatever_has_no_order() {
    let server = Scripted::start(|_, _| reply("400", "", "{}"));
    for (name, predictors) in [
        ("chain", &["predict"][..]),
        ("react", &["extract.predict", "react"]),
        ("nested", &["named['first'].predict", "steps[0].ask", "steps[1].ask"]),
    ] {
        let job = Job::new().questions(1).file("program.py", RESTLESS);
        for session in 1..=3 {
            let base = server.base_url();
            let predictor = format!("program.py:{name}");
            let process = ["process", "questions.csv", "-o", "answers.csv", "--predictor", &predictor];
            let model = ["--model", "openai/gpt-4o-mini", "--api-base", &base, "--retries", "0"];
            let done = job.run(&[&process[..], &model].concat()).expect(3);
            assert!(!done.stderr.contains("kept as"), "session {session}: {}", done.stderr);
        }
        let headers = headers(&job);
        let prompts: Vec<_> = headers.iter().map(|header| &header["prompt"]).collect();
        assert_eq!((prompts.len(), prompts[0], prompts[1]), (3, prompts[1], prompts[2]), "{name}");
        let told: Vec<_> = prompts[0]["predictors"].as_object().unwrap().keys().collect();
        assert_eq!(told, predictors);
        assert_eq!(prompts[0]["sources"].as_object().unwrap().keys().collect::<Vec<_>>(), ["program.py"]);
    }
}
