//! Every kind of predictor and of answer, and how columns become arguments. DSPy's modules are tested elsewhere.

use serde_json::{Value, json};

use super::support::job::Job;

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
    answer: str
    score: float
async def predict(question):
    return Reply(answer='A', score=1)";
    assert_eq!(answered(code), json!({"answer": "A", "score": 1.0}));
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
        ("None", "of type NoneType, which is no answer: None"),
        ("42", "of type int, which is no answer: 42"),
        ("float('nan')", "of type float, which is no answer: nan"),
        ("b'paid'", "of type bytes, which is no answer: b'paid'"),
        ("['a']", "of type list, which is no answer: ['a']"),
        ("{}", "returned no field: {}"),
        ("{1: 2}", "a field name that is no string: {1: 2}"),
        ("{'a': {1, 2}}", "has no JSON form): {'a': {1, 2}}"),
        ("{'a': float('nan')}", "not JSON compliant): {'a': nan}"),
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
    }
    assert_eq!(answers.last().unwrap()["answer"], "fine");
    assert_eq!(job.report()["rows"]["failed_by_class"], json!({"output": returned.len()}));
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
    for name in ["asyncio", "uvloop"] {
        let job = Job::new().questions(1).predictor(code);
        job.process_with(&["--event-loop", name]).expect(0);
        assert_eq!(job.column("answer"), [name]);
        assert_eq!(job.report()["event_loop"]["name"], name);
    }
}
