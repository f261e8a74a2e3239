//! Every kind of predictor and of answer, and how columns become arguments. DSPy's modules are tested elsewhere.

use serde_json::{Value, json};

use super::support::job::{Job, PLACES};

/// Runs three questions through the predictor and expects each answered by itself.
#[track_caller]
fn echoes(code: &str) -> Job {
    let job = Job::new().questions(3).predictor(code);
    job.process().expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
    job
}

#[test]
fn an_async_function() {
    echoes("async def predict(question):\n    await asyncio.sleep(0)\n    return question");
}

#[test]
fn an_async_generator_is_joined_and_its_first_chunk_is_timed() {
    let job = echoes(
        "async def predict(question):
             await asyncio.sleep(0.05)
             for letter in question:
                 yield letter
             await asyncio.sleep(0.2)",
    );
    let report = job.report();
    assert_eq!(report["first_chunk_ms"]["count"], 3);
    let median = |times: &Value| times["p50"].as_f64().unwrap();
    let (first, whole) = (median(&report["first_chunk_ms"]), median(&report["latency_ms"]["ok"]));
    // Event loops count whole milliseconds and may be one early.
    assert!(first >= 45.0 && whole >= first + 190.0, "{first} of {whole}");
}

#[test]
fn a_plain_function_runs_on_as_many_threads_as_calls_are_allowed() {
    // Nobody passes the barrier before 50 are there.
    let job = Job::new().questions(100).args(["-c", "50", "--timeout", "20s"]).predictor(
        "import threading
barrier = threading.Barrier(50)
def predict(question):
    barrier.wait(15)
    return question",
    );
    job.process().expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
}

#[test]
fn a_class_is_made_once() {
    let job = echoes(
        "class predict:
             def __init__(self):
                 called('made')
             async def __call__(self, question):
                 return question",
    );
    assert_eq!(job.calls(), ["made"]);
}

#[test]
fn a_class_may_need_the_running_loop_when_it_is_made() {
    echoes(
        "class predict:
             def __init__(self):
                 self.loop = asyncio.get_running_loop()
             async def __call__(self, question):
                 assert asyncio.get_running_loop() is self.loop
                 return question",
    );
}

#[test]
fn a_callable_object_async_or_not() {
    echoes("class P:\n    async def __call__(self, question):\n        return question\npredict = P()");
    echoes("class P:\n    def __call__(self, question):\n        return question\npredict = P()");
}

#[test]
fn an_object_with_acall_is_awaited_there() {
    echoes(
        "class P:
             def __call__(self, question):
                 raise TypeError('the synchronous way')
             async def acall(self, question):
                 return question
predict = P()",
    );
}

#[test]
fn a_partial_and_a_bound_method() {
    echoes(
        "import functools
async def answer(prefix, question):
    return prefix + question
predict = functools.partial(answer, '')",
    );
    echoes("class P:\n    async def answer(self, question):\n        return question\npredict = P().answer");
}

#[test]
fn a_name_in_a_package_found_from_the_current_directory() {
    let job = Job::new().questions(2).file("mine.py", "async def answer(question):\n    return question\n");
    job.run(&["process", "questions.csv", "-o", "answers.csv", "--predictor", "mine:answer"]).expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
}

#[test]
fn a_predictor_imports_the_files_beside_it() {
    let job = Job::new().questions(2).file("beside.py", "def same(text):\n    return text\n").predictor(
        "import beside
async def predict(question):
    return beside.same(question)",
    );
    job.process().expect(0);
    assert_eq!(job.column("answer"), job.column("question"));
}

/// The added fields of one row.
fn answered(code: &str) -> Value {
    let job = Job::new().file("rows.jsonl", "{\"question\":\"q\"}\n").predictor(code);
    job.process_file("rows.jsonl", "answers.jsonl").expect(0);
    let mut answer = job.lines("answers.jsonl").remove(0);
    for name in ["question", "status", "error", "attempts", "latency_ms"] {
        answer.as_object_mut().unwrap().remove(name).unwrap();
    }
    answer
}

#[test]
fn a_mapping_is_one_column_a_key() {
    let code = "async def predict(question):
    return {'answer': 'A', 'score': 0.5, 'sources': ['x', {'y': None}]}";
    assert_eq!(answered(code), json!({"answer": "A", "score": 0.5, "sources": ["x", {"y": null}]}));
}

#[test]
fn a_dataclass_is_one_column_a_field() {
    let code = "from dataclasses import dataclass
@dataclass
class Inner:
    x: int
@dataclass
class Reply:
    answer: str
    inner: Inner
async def predict(question):
    return Reply('A', Inner(1))";
    assert_eq!(answered(code), json!({"answer": "A", "inner": {"x": 1}}));
}

#[test]
fn a_pydantic_model_is_one_column_a_field() {
    let code = "import pydantic
class Reply(pydantic.BaseModel):
    model_config = {'extra': 'allow'}
    answer: str
    score: float
    never_set: int
    @pydantic.computed_field
    @property
    def good(self) -> bool: return self.score > 0.5
async def predict(question):
    return Reply.model_construct(answer='A', score=1.0, more=[1])";
    assert_eq!(answered(code), json!({"answer": "A", "score": 1.0, "more": [1], "good": true}));
}

#[test]
fn an_attrs_class_and_a_struct_of_msgspec_are_one_column_a_field() {
    let code = "import attrs
@attrs.define
class Inner:
    x: int
class Struct:  # What msgspec's have.
    __struct_fields__ = ('answer', 'inner')
    def __init__(self, answer, inner): self.answer, self.inner = answer, inner
async def predict(question):
    return Struct('A', [Inner(1)])";
    assert_eq!(answered(code), json!({"answer": "A", "inner": [{"x": 1}]}));
}

#[test]
fn a_value_whose_fields_cannot_be_read_fails_its_row_once_and_its_repr_is_kept() {
    let job = Job::new().questions(1).predictor(
        "from collections.abc import Mapping
class Broken(Mapping):
    def __getitem__(self, name): raise OSError('gone')
    def __iter__(self): raise OSError('gone')
    def __len__(self): return 1
    def __repr__(self): return 'paid'
async def predict(question):
    called(question)
    return Broken()",
    );
    job.process().expect(3);
    assert_eq!(job.calls().len(), 1);
    assert!(job.column("error")[0].starts_with("output: "), "{:?}", job.column("error"));
    assert!(job.column("error")[0].contains(": paid; hint: "), "{:?}", job.column("error"));
}

#[test]
fn columns_stand_in_the_order_of_their_first_appearance() {
    let job = Job::new().questions(3).args(["--sequential"]).predictor(
        "async def predict(question, row_id):
             return [{'b': '1'}, {'a': '2', 'b': '3'}, {'c': '4'}][row_id]",
    );
    job.process().expect(0);
    assert!(job.read("answers.csv").starts_with("id,question,b,a,c,status,error,attempts,latency_ms\n"));
    assert_eq!(job.column("b"), ["1", "3", ""]);
}

#[test]
fn what_is_no_answer_fails_its_row_once_and_its_repr_is_kept() {
    let returned = [
        ("object()", "of type object, which cannot be an answer: <object object at"),
        ("b'\\xff\\xfe'", "of type bytes, which cannot be an answer: b'\\xff\\xfe'"),
        ("[print]", "of type list, which cannot be an answer: [<built-in function print>]"),
        ("int", "of type type, which cannot be an answer: <class 'int'>"),
        ("(lambda loop: loop.append(loop) or loop)([])", "of type list, which cannot be an answer: [[...]]"),
        (
            "{'a': 1, 'b': {'c': 1j}}",
            "field `b` has no JSON form (a value of type complex has no JSON form): {'a': 1, 'b': {'c': 1j}}",
        ),
        (
            "{(1, 2): 3}",
            "field `(1, 2)` has no JSON form (a value of type tuple is no field name): {(1, 2): 3}",
        ),
    ];
    let rows: String = returned.iter().map(|(value, _)| format!("\"{value}\"\n")).collect();
    let job = Job::new().file("questions.csv", format!("question\n{rows}\"'fine'\"\n")).predictor(
        "async def predict(question):
             called(question)
             return eval(question)",
    );
    job.process().expect(3);
    assert_eq!(job.calls().len(), returned.len() + 1);
    let answers = job.answers();
    for ((value, expected), answer) in returned.iter().zip(&answers) {
        assert!(answer["error"].contains(expected), "{value}: {}", answer["error"]);
        let shapes = "; hint: return text, a mapping, dataclass, attrs or pydantic model (one column a field, such as `{";
        assert!(answer["error"].contains(shapes), "{value}: {}", answer["error"]);
    }
    assert_eq!(answers.last().unwrap()["answer"], "fine");
    assert_eq!(job.report()["rows"]["failed_by_class"], json!({"output": returned.len()}));
}

/// What the types of these answers are made of.
const TYPES: &str = "
import array, collections, dataclasses, datetime as d, decimal, enum, fractions, ipaddress, pathlib, uuid
import pydantic
class Colour(enum.Enum): RED = 'red'
class Level(enum.IntEnum): HIGH = 3
class Tag(str, enum.Enum): A = 'a'
@dataclasses.dataclass(frozen=True)
class Inner: when: d.date; colour: Colour
class Model(pydantic.BaseModel):
    inner: Inner
    link: pydantic.HttpUrl
class Numpy:  # What numpy's scalars and arrays have.
    dtype = 'int64'
    def __init__(self, plain): self.plain = plain
    def tolist(self): return self.plain
async def predict(question):
    called(question)
    return eval(question)
";

/// The answer that each expression makes, a row each.
#[track_caller]
fn evaluated(expressions: &[&str]) -> Vec<Value> {
    let rows = expressions.iter().map(|text| format!("{}\n", json!({"question": text})));
    let job = Job::new().file("rows.jsonl", rows.collect::<String>()).predictor(TYPES);
    job.process_file("rows.jsonl", "answers.jsonl").expect(0);
    assert_eq!(job.calls().len(), expressions.len(), "none is retried");
    job.lines("answers.jsonl").into_iter().map(|mut row| row["answer"].take()).collect()
}

#[test]
fn any_value_that_json_can_hold_is_the_answer() {
    let expected = [
        ("42", json!(42)),
        ("10 ** 30", serde_json::from_str("1000000000000000000000000000000").unwrap()),
        ("0.5", json!(0.5)),
        ("True", json!(true)),
        ("None", json!(null)),
        ("['a', 1, None]", json!(["a", 1, null])),
        ("('a', ['b'])", json!(["a", ["b"]])),
        ("{3, 1, 2}", json!([1, 2, 3])),
        ("{}", json!({})),
        ("[]", json!([])),
        ("''", json!("")),
        ("Colour.RED", json!("red")),
        ("Level.HIGH", json!(3)),
        ("Tag.A", json!("a")),
        ("d.date(2026, 1, 2)", json!("2026-01-02")),
        ("d.datetime(2026, 1, 2, 3, 4, tzinfo=d.UTC)", json!("2026-01-02T03:04:00+00:00")),
        ("d.time(3, 4)", json!("03:04:00")),
        ("d.timedelta(minutes=1.5)", json!(90.0)),
        ("decimal.Decimal('1.10')", json!("1.10")),
        ("fractions.Fraction(1, 3)", json!("1/3")),
        ("uuid.UUID(int=1)", json!("00000000-0000-0000-0000-000000000001")),
        ("pathlib.Path('a/b')", json!("a/b")),
        ("ipaddress.ip_address('::1')", json!("::1")),
        ("'paid: é'.encode()", json!("paid: é")),
        ("collections.deque([1])", json!([1])),
        ("array.array('i', [1, 2])", json!([1, 2])),
        ("Numpy(7)", json!(7)),
        ("[Numpy([[1, 2], [3, 4]])]", json!([[[1, 2], [3, 4]]])),
        (
            "[Model(inner=Inner(d.date(2026, 1, 2), 'red'), link='http://a.b/c')]",
            json!([{"inner": {"when": "2026-01-02", "colour": "red"}, "link": "http://a.b/c"}]),
        ),
    ];
    let answers = evaluated(&expected.each_ref().map(|(expression, _)| *expression));
    for ((expression, expected), answer) in expected.iter().zip(&answers) {
        assert_eq!(answer, expected, "{expression}");
    }
}

#[test]
fn any_value_that_json_can_hold_stands_in_csv_as_json_and_text_as_text() {
    let rows = ["42", "None", "[1, 'a, b']", "Colour.RED", "True"].map(|text| format!("\"{text}\"\n"));
    let job = Job::new().file("questions.csv", format!("question\n{}", rows.concat())).predictor(TYPES);
    job.process().expect(0);
    assert_eq!(job.column("answer"), ["42", "", r#"[1, "a, b"]"#, "red", "true"]);
}

#[test]
fn fields_and_their_names_may_be_of_any_type_that_json_can_tell() {
    let fields = "{'on': d.date(2026, 1, 2), 'by': {Colour.RED: {uuid.UUID(int=1)}}, 7: Numpy([0.5]), None: (), Float(2.5): 1}";
    // `repr` of a float of numpy's is like that.
    let float = "class Float(float): __repr__ = lambda self: 'np.float64(2.5)'\nasync def";
    let code = TYPES.replace("eval(question)", fields).replace("async def", float);
    let expected = json!({"on": "2026-01-02", "by": {"red": ["00000000-0000-0000-0000-000000000001"]}, "7": [0.5], "null": [], "2.5": 1});
    assert_eq!(answered(&code), expected);
}

#[test]
fn a_number_that_is_not_finite_is_kept_as_null_and_said_once() {
    let job = Job::new().questions(40).predictor(
        "import decimal
async def predict(question, row_id):
    called(row_id)
    if row_id < 7:
        return {'answer': 'paid', 'score': 0.5, 'all': [1.5]}
    return {'answer': 'paid', 'score': float('nan'), 'all': [1.5, float('-inf'), {'x': decimal.Decimal('NaN')}]}",
    );
    let done = job.process().expect(0).says(
        "warning: 99 numbers in the answers are not finite (NaN or infinity), which JSON cannot hold, and are kept as \
         null; the first is in row 7",
    );
    assert_eq!(done.stderr.matches("not finite").count(), 1, "{}", done.stderr);
    assert_eq!(job.calls().len(), 40);
    let answers = job.answers();
    assert_eq!([&*answers[6]["score"], &*answers[6]["all"]], ["0.5", "[1.5]"]);
    assert_eq!([&*answers[7]["answer"], &*answers[7]["score"]], ["paid", ""]);
    assert_eq!(answers[7]["all"], r#"[1.5, null, {"x": null}]"#);
    job.run(&["export", "answers.csv", "-o", "answers.jsonl"]).expect(0);
    assert_eq!(job.lines("answers.jsonl")[7]["score"], Value::Null);
    job.run(&["verify", "questions.csv", "answers.csv"]).expect(0);
}

#[test]
fn half_a_surrogate_pair_in_an_answer_is_kept_escaped() {
    let code = "async def predict(question):\n    return 'paid \\ud800'";
    assert_eq!(answered(code), json!({"answer": "paid \\ud800"}));
}

#[test]
fn only_the_columns_that_parameters_name_are_passed() {
    let job = Job::new().file("questions.csv", "a,question,b\n1,q,2\n").predictor(
        "async def predict(question, b, c='default'):
             called([question, b, c])
             return question",
    );
    job.process().expect(0);
    assert_eq!(job.calls(), [json!(["q", "2", "default"])]);
}

#[test]
fn an_optional_parameter_takes_its_column_where_there_is_one() {
    let lines = "{\"question\":\"q\",\"hint\":\"h\"}\n{\"question\":\"r\"}\n";
    let job = Job::new().file("rows.jsonl", lines).args(["--sequential"]).predictor(
        "async def predict(question, *, hint='none'):
             called([question, hint])
             return question",
    );
    job.process_file("rows.jsonl", "answers.jsonl").expect(0);
    assert_eq!(job.calls(), [json!(["q", "h"]), json!(["r", "none"])]);
}

#[test]
fn all_columns_go_to_a_predictor_that_takes_them_all() {
    let job = Job::new().file("questions.csv", "a,question\n1,q\n").predictor(
        "async def predict(**row):
             called(row)
             return 'A'",
    );
    job.process().expect(0);
    assert_eq!(job.calls(), [json!({"a": "1", "question": "q"})]);
}

#[test]
fn the_rows_id_and_the_attempt_are_told_to_those_that_ask() {
    let job = Job::new().questions(5).args(["--range", "3:5", "--sequential", "--backoff", "1ms"]).predictor(
        "async def predict(question, row_id, attempt):
             called([row_id, attempt])
             if attempt == 1:
                 raise ConnectionError()
             return question",
    );
    job.process().expect(0);
    let mut calls = job.calls();
    calls.sort_by_key(ToString::to_string);
    assert_eq!(calls, [json!([3, 1]), json!([3, 2]), json!([4, 1]), json!([4, 2])]);
}

#[test]
fn a_column_of_another_name_becomes_the_question() {
    let job = Job::new().echo().file("questions.csv", "prompt,x\nq,1\n").args(["--column", "prompt"]);
    job.process().expect(0);
    assert_eq!(job.calls(), ["q"]);
}

#[test]
fn columns_are_mapped_to_parameters() {
    let job = Job::new().file("questions.csv", "Frage,Thema\nq,t\n").predictor(
        "async def predict(question, topic):
             called([question, topic])
             return question",
    );
    job.process_with(&["--map", "question=Frage", "--map", "topic=Thema"]).expect(0);
    assert_eq!(job.calls(), [json!(["q", "t"])]);
}

#[test]
fn a_parameter_without_a_column_is_refused_with_the_columns_there_are() {
    let job = Job::new().questions(2).predictor("async def predict(question, topic): return question");
    let before = job.files();
    job.process()
        .expect(1)
        .says("has no column `topic`, only `id`, `question`")
        .says("hint: name the column: `--map topic=NAME`");
    assert_eq!(job.files(), before);
}

#[test]
fn uvloop_and_asyncio_are_both_loops_to_choose() {
    let code = "async def predict(question):
    return type(asyncio.get_running_loop()).__module__.partition('.')[0]";
    for (name, workers) in
        ["asyncio", "uvloop"].into_iter().flat_map(|name| PLACES.map(|place| (name, place)))
    {
        let job = Job::new().questions(1).predictor(code);
        job.process_with(&["--event-loop", name, "--workers", workers]).expect(0);
        assert_eq!(job.column("answer"), [name]);
        assert_eq!(job.report()["event_loop"]["name"], name);
    }
}
