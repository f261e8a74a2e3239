//! Parameters and signature fields with a type: their columns' values are checked before the first call and made for
//! it.

use serde_json::{Value, json};

use super::support::aimock::{Aimock, Fixtures};
use super::support::job::{Done, Job};

/// A predictor that notes the type and the value of all it is given.
const TYPES: &str = "
from __future__ import annotations
import datetime, decimal, enum, json, os
from typing import TYPE_CHECKING, Literal, Optional
import pydantic
if TYPE_CHECKING:
    from nowhere import Nothing
class Colour(enum.Enum):
    RED = 'red'
class Item(pydantic.BaseModel):
    name: str
    count: int = 1
async def predict(
    n: int, x: float, ok: bool, tags: list[str], item: Item, on: datetime.date, price: decimal.Decimal,
    colour: Colour, level: Literal[1, 2], maybe: Optional[int], note: str | None, plain, text: str,
) -> Nothing:
    values = {name: repr(value) for name, value in locals().items()}
    with open(os.path.join(os.path.dirname(__file__), 'calls'), 'a') as calls:
        calls.write(json.dumps(values) + chr(10))
    return 'A'
";

fn made() -> Value {
    json!({
        "n": "3", "x": "0.5", "ok": "True", "tags": "['a', 'b']", "item": "Item(name='i', count=2)",
        "on": "datetime.date(2026, 1, 2)", "price": "Decimal('1.10')", "colour": "<Colour.RED: 'red'>", "level": "2",
        "maybe": "4", "note": "'none'", "plain": "'5'", "text": "'6'"
    })
}

#[test]
fn csv_cells_become_values_of_the_parameters_types() {
    let header = "n,x,ok,tags,item,on,price,colour,level,maybe,note,plain,text\n";
    let row = "3,0.5,yes,\"[\"\"a\"\", \"\"b\"\"]\",\"{\"\"name\"\": \"\"i\"\", \"\"count\"\": 2}\",2026-01-02,1.10,red,2,4,none,5,6\n";
    // Blank cells, the question aside.
    let blank = row.replace(",4,none,5,6", ",, ,,");
    let job = Job::new().file("questions.csv", format!("{header}{row}{blank}")).file("predictor.py", TYPES);
    job.process_with(&["--sequential"]).expect(0);
    let mut without = made();
    without["maybe"] = json!("None");
    without["note"] = json!("None");
    without["plain"] = json!("''");
    without["text"] = json!("''");
    assert_eq!(job.calls(), [made(), without]);
}

#[test]
fn jsonl_values_become_values_of_the_parameters_types() {
    let mut row = json!({
        "n": 3, "x": 0.5, "ok": true, "tags": ["a", "b"], "item": {"name": "i", "count": 2}, "on": "2026-01-02",
        "price": "1.10", "colour": "red", "level": 2, "maybe": 4, "note": "none", "plain": "5", "text": "6"
    });
    let first = row.to_string();
    row["n"] = json!("3");
    row["maybe"] = json!(null);
    row["note"] = json!("");
    row["plain"] = json!([5]);
    row["text"] = json!(6);
    let job = Job::new().file("rows.jsonl", format!("{first}\n{row}\n")).file("predictor.py", TYPES);
    job.process_file("rows.jsonl", "answers.jsonl").expect(0);
    let mut other = made();
    other["maybe"] = json!("None");
    other["note"] = json!("''");
    other["plain"] = json!("[5]");
    other["text"] = json!("6");
    let mut calls = job.calls();
    calls.sort_by_key(|call| call["maybe"] == "None");
    assert_eq!(calls, [made(), other]);
}

const COUNT: &str = "async def predict(question: str, n: int):\n    called([question, n])\n    return n\n";

#[test]
fn values_that_are_none_of_the_type_are_refused_with_their_lines_before_the_first_call() {
    let job = Job::new()
        .file("questions.csv", "question,count\na,1\n\"b\nb\",two\nc,3\nd,\"[4]\"\n")
        .predictor(COUNT)
        .args(["--map", "n=count"]);
    let before = job.files();
    let done = job.process().expect(1);
    insta::assert_snapshot!(done.stderr, @r"
    error: failed to read `questions.csv`: line 3 has `two` in the column `count`, which is not a valid `int`: input should be a valid integer, unable to parse string as an integer
      also line 6 has `[4]` in the column `count`, which is not a valid `int`: input should be a valid integer
    hint: correct the value (a list or a model is written as JSON), or annotate the parameter as `str`
    ");
    assert_eq!(job.process_with(&["--dry-run"]).expect(1).stderr, done.stderr);
    assert!(job.calls().is_empty());
    assert_eq!(job.files(), before);
    job.process_with(&["--range", "2:3"]).expect(0).prints("Answered 1 of 1 row");
    assert_eq!(job.calls(), [json!(["c", 3])], "only what is selected is checked");
}

#[test]
fn a_value_of_jsonl_that_is_none_of_the_type_is_refused_by_its_key_in_a_large_file_too() {
    let mut lines: String = (0..30_000).map(|i| format!("{{\"question\": \"q\", \"n\": {i}}}\n")).collect();
    lines += "{\"question\": \"q\", \"n\": {\"a\": 1}}\n{\"question\": \"q\", \"n\": 1.5}\n";
    let job = Job::new().file("rows.jsonl", lines).predictor(COUNT);
    let done = job.process_file("rows.jsonl", "answers.jsonl").expect(1);
    done.says("`rows.jsonl`: line 30001 has `{\"a\": 1}` in the column `n`, which is not a valid `int`: input should be a valid integer")
        .says("also line 30002 has `1.5` in the column `n`");
    assert!(job.calls().is_empty());
}

#[test]
fn a_blank_value_is_a_row_that_is_not_asked_where_its_type_has_no_blank_one() {
    let job = Job::new().file("questions.csv", "question,n\na,1\nb,\nc, \nd,4\n").predictor(COUNT);
    job.process().expect(3);
    assert_eq!(job.column("status"), ["ok", "failed", "failed", "ok"]);
    assert_eq!(job.column("answer"), ["1", "", "", "4"]);
    assert_eq!(job.column("error")[1], "input: `n` is blank, which is not a valid `int`");
    assert_eq!(job.calls().len(), 2);
    assert_eq!(job.report()["rows"]["failed_by_class"], json!({"input": 2}));

    let lines =
        "{\"question\":\"a\",\"n\":null}\n{\"question\":\"b\",\"n\":\"\"}\n{\"question\":\"c\",\"n\":3}\n";
    let job = Job::new().file("rows.jsonl", lines).predictor(COUNT);
    job.process_file("rows.jsonl", "answers.csv").expect(3);
    assert_eq!(job.column("status"), ["failed", "failed", "ok"]);
}

#[test]
fn a_blank_value_leaves_a_parameter_with_a_default_at_it() {
    let code = "async def predict(question, n: int = 7):\n    return n";
    let job = Job::new().file("questions.csv", "question,n\na,1\nb,\n").predictor(code);
    job.process().expect(0);
    assert_eq!(job.column("answer"), ["1", "7"]);
}

#[test]
fn a_blank_first_value_is_none_where_its_type_takes_that_and_the_row_is_asked() {
    let code = "async def predict(context: str | None, prompt: str):\n    return f'{context} {prompt}'";
    let job = Job::new().file("questions.csv", "context,prompt\n,a\nc,b\nc,\n").predictor(code);
    job.process().expect(3);
    assert_eq!(job.column("answer"), ["None a", "c b", ""]);
    assert_eq!(job.column("error")[2], "input: the question is blank");
}

#[test]
fn every_kind_of_predictor_gets_typed_values() {
    for code in [
        "def predict(n: int):\n    return n + 1",
        "async def predict(n: 'int'):\n    yield {'answer': n + 1}",
        "class predict:\n    async def __call__(self, n: int):\n        return n + 1",
        "class P:\n    async def acall(self, n: int):\n        return n + 1\npredict = P()",
        "import functools\nasync def add(more, n: int):\n    return n + more\npredict = functools.partial(add, 1)",
        "class P:\n    def add(self, n: int):\n        return n + 1\npredict = P().add",
        "import functools\ndef same(f):\n    @functools.wraps(f)\n    async def inner(**row):\n        \
         return await f(**row)\n    return inner\n@same\nasync def predict(n: int):\n    return n + 1",
        "async def predict(n: int, **row):\n    return n + len(row['more'])",
    ] {
        let job = Job::new().file("questions.csv", "n,more\n41,1\n").predictor(code);
        job.process().expect(0);
        assert_eq!(job.column("answer"), ["42"], "{code}");
        job.process_with(&["--bridge", "into_future", "--force"]).expect(0);
        assert_eq!(job.column("answer"), ["42"], "{code}");
    }
}

#[test]
fn without_pydantic_text_needs_no_type_and_a_type_is_refused_with_the_remedy() {
    let hidden = "import sys\nsys.modules['pydantic'] = None\n";
    let text = "async def predict(question: str, more: 'str' = '', any: object = None):\n    return question";
    let job = Job::new().questions(2).predictor(&format!("{hidden}{text}"));
    job.process().expect(0);
    let typed = "async def predict(id: int):\n    return id";
    let job = Job::new().questions(2).predictor(&format!("{hidden}{typed}"));
    job.process()
        .expect(1)
        .says("parameter `id` is annotated `int`, and `pydantic`, which converts a column's values to that type, is not")
        .says("pip install pydantic`, or annotate it as `str`");
    // One with a default needs no column, and then no pydantic.
    let with_default = "async def predict(question, n: float = 0.5):\n    return n";
    let job = Job::new().questions(2).predictor(&format!("{hidden}{with_default}"));
    let job = job.file("with.csv", "question,n\nq,1\n");
    job.process().expect(0);
    assert_eq!(job.column("answer"), ["0.5", "0.5"]);
    job.process_file("with.csv", "other.csv")
        .expect(1)
        .says("parameters: parameter `n` is annotated `float`, and `pydantic`")
        .says("pip install pydantic`, or annotate it as `str`");
}

#[test]
fn an_annotation_that_nothing_can_be_made_of_is_said_and_its_values_are_passed_as_they_are() {
    let code = "class Odd: ...
async def predict(question: 'Nowhere', id: Odd, client: Odd = None):
    called([question, id])
    return question";
    let job = Job::new().questions(1).predictor(code);
    let done = job.process().expect(0);
    assert_eq!(done.stderr.matches("warning: the annotation").count(), 2, "{}", done.stderr);
    done.says(
        "the annotation `Nowhere` of the parameter `question` names what is not there when the program runs: the \
         column's values are passed as they are",
    )
    .says("the annotation `Odd` of the parameter `id` is nothing that pydantic can make");
    assert_eq!(job.calls(), [json!(["Question 0?", "0"])]);
}

/// `process questions.csv` on the server.
fn ask(job: &Job, server: &Aimock, options: &[&str]) -> Done {
    let base = server.base_url();
    let all =
        ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/gpt-4o-mini", "--api-base"];
    job.run(&[&all[..], &[&base], options].concat())
}

/// Answers whatever it is asked.
fn any_question() -> Aimock {
    let content = "[[ ## reasoning ## ]]\nr\n\n[[ ## answer ## ]]\nA\n\n[[ ## completed ## ]]";
    Aimock::start(&Fixtures::default().fixture(&json!({}), &json!({"content": content})))
}

/// A PNG file's first bytes.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const SENT: &str = "data:image/png;base64,iVBORw0KGgo=";

/// The images that the server was sent.
fn images(server: &Aimock) -> Vec<String> {
    let mut found = Vec::new();
    for request in server.journal() {
        for part in
            request["body"]["messages"].as_array().unwrap().iter().filter_map(|m| m["content"].as_array())
        {
            let urls = part.iter().filter(|part| part["type"] == "image_url");
            found.extend(urls.map(|part| part["image_url"]["url"].as_str().unwrap().to_owned()));
        }
    }
    found.sort();
    found
}

#[test]
fn an_image_is_sent_from_a_path_a_url_and_a_data_uri() {
    let server = any_question();
    let job = Job::new();
    std::fs::create_dir(job.path("in")).unwrap();
    std::fs::create_dir(job.path("here")).unwrap();
    let rows = format!("image,question\na.png,q\nhere/b.png,q\nhttp://127.0.0.1/c.png,q\n\"{SENT}\",q\n,q\n");
    let job = job.file("in/questions.csv", rows).file("in/a.png", PNG).file("here/b.png", PNG);
    let base = server.base_url();
    let done = job.run(&[
        "process",
        "in/questions.csv",
        "-o",
        "answers.csv",
        "--model",
        "openai/gpt-4o-mini",
        "--api-base",
        &base,
        "--signature",
        "image: dspy.Image, question -> answer",
    ]);
    let done = done.expect(3);
    assert_eq!(images(&server), [SENT, SENT, SENT, "http://127.0.0.1/c.png"]);
    assert_eq!(server.journal().len(), 4);
    assert_eq!(job.column("status"), ["ok", "ok", "ok", "ok", "failed"]);
    assert!(!done.stderr.contains("mismatch"), "{}", done.stderr);
}

#[test]
fn an_image_that_is_not_there_is_refused_before_the_first_call() {
    let server = any_question();
    let job = Job::new()
        .file("questions.csv", "image,question\na.png,q\nb.png,q\nnotes.txt,q\n/gone.png,q\n")
        .file("a.png", PNG)
        .file("notes.txt", "n");
    let signature = ["--signature", "image: dspy.Image, question -> answer"];
    ask(&job, &server, &signature)
        .expect(1)
        .says("line 3 has `b.png` in the column `image`, which is not a valid `Image`: there is no such file in `")
        .says(&format!(
            "there is no such file in `{}`\n",
            job.path("").to_str().unwrap().trim_end_matches('/')
        ))
        .says("line 5 has `/gone.png` in the column `image`, which is not a valid `Image`: there is no such file\n")
        .says("also line 4 has `notes.txt` in the column `image`")
        .says("notes.txt` is no image by its name");
    assert_eq!(server.journal().len(), 0);
}

#[test]
fn images_in_a_list_and_of_functions_that_are_lent_a_model_are_sent() {
    let server = any_question();
    let code = "import dspy
ask = dspy.ChainOfThought('images: list[dspy.Image], question -> answer')
async def predict(images: list[dspy.Image], question: str):
    return await ask.acall(images=images, question=question)";
    let job = Job::new().file("questions.csv", "images,question\n\"[\"\"a.png\"\", \"\"a.png\"\"]\",q\n");
    let job = job.file("a.png", PNG).predictor(code);
    ask(&job, &server, &["--predictor", "predictor.py:predict"]).expect(0);
    assert_eq!(images(&server), [SENT, SENT]);
}

#[test]
fn a_signature_with_types_gets_them_and_dspy_warns_of_no_row() {
    let server = any_question();
    let code = "import dspy, datetime, pydantic
class Event(pydantic.BaseModel):
    message: str
    at: datetime.datetime
class Ask(dspy.Signature):
    event: Event = dspy.InputField()
    n: int = dspy.InputField(ge=1)
    text: str = dspy.InputField()
    answer: str = dspy.OutputField()
predict = dspy.ChainOfThought(Ask)";
    let row = |n: u32| {
        json!({"event": {"message": "m", "at": "2026-01-02T03:04:00"}, "n": n, "text": 7}).to_string()
    };
    let lines = [row(1), row(2), row(3)].join("\n");
    let job = Job::new().file("rows.jsonl", lines).file("bad.jsonl", row(0)).predictor(code);
    let base = server.base_url();
    let run = |input| {
        job.run(&[
            "process",
            input,
            "-o",
            "answers.csv",
            "--predictor",
            "predictor.py:predict",
            "--model",
            "openai/gpt-4o-mini",
            "--api-base",
            &base,
        ])
    };
    run("bad.jsonl")
        .expect(1)
        .says("line 1 has `0` in the column `n`, which is not a valid `int`: input should be greater");
    let done = run("rows.jsonl").expect(0);
    assert_eq!(server.journal().len(), 3);
    assert!(server.journal()[0]["body"].to_string().contains("2026-01-02T03:04:00"));
    assert_eq!(done.stderr.matches("Type mismatch for field 'text'").count(), 1, "{}", done.stderr);
    assert_eq!(done.stderr.matches("mismatch").count(), 1, "{}", done.stderr);
}
