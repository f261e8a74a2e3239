//! DSPy programs of all shapes on a scripted server: columns, saved programs, streams, width, hidden layers.

use super::support::aimock::{Aimock, Fixtures};
use super::support::job::{Done, Job};
use serde_json::{Value, json};

/// `process questions.csv` on the server, by the predictor and with the options given.
fn ask(job: &Job, server: &Aimock, options: &[&str]) -> Done {
    let base = server.base_url();
    let all =
        ["process", "questions.csv", "-o", "answers.csv", "--model", "openai/gpt-4o-mini", "--api-base"];
    job.run(&[&all[..], &[&base], options].concat())
}

/// The columns of `answers.csv`.
fn columns(job: &Job) -> String {
    job.read("answers.csv").lines().next().unwrap().to_owned()
}

/// A server that answers two questions, the second cut off.
fn one_whole_one_cut_off() -> Aimock {
    let content = "[[ ## reasoning ## ]]\nBy heart.\n\n[[ ## answer ## ]]\nAns\n\n[[ ## completed ## ]]";
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 16, "total_tokens": 116});
    let cut = json!({"content": content, "finishReason": "length", "usage": usage});
    Aimock::start(&Fixtures::numbered(1).fixture(&json!({"userMessage": "Question 1?"}), &cut))
}

#[test]
fn the_columns_asked_for_stand_in_their_order_and_cut_off_answers_are_told() {
    let server = one_whole_one_cut_off();
    let job = Job::new().questions(2);
    let done = ask(&job, &server, &["--fields", "answer,finish_reason,output_tokens"]).expect(0);
    done.prints("Cut off        1 answer at max_tokens");
    assert_eq!(
        columns(&job),
        "id,question,answer,finish_reason,output_tokens,status,error,attempts,latency_ms"
    );
    assert_eq!(job.column("finish_reason"), ["stop", "length"]);
    assert_eq!(job.column("output_tokens"), ["10", "16"]);
    assert_eq!(job.report()["rows"]["cut_off"], 1);
    job.run(&["verify", "questions.csv", "answers.csv"]).expect(0);
    job.run(&["export", "answers.csv", "-o", "all.csv", "--fields", "reasoning,input_tokens"]).expect(0);
    assert_eq!(job.records("all.csv")[1]["reasoning"], "By heart.", "the journal keeps every field");
    assert_eq!(job.records("all.csv")[1]["input_tokens"], "100");
    assert_eq!(job.run(&["report", "answers.csv"]).stdout.matches("Cut off").count(), 1);
    let failures = job.run(&["report", "answers.csv", "--failures"]).expect(0).stdout;
    assert_eq!(failures, "row 1: answered, but cut off at max_tokens\n");
    let other = job.resume_with(&["--fields", "reasoning"]).expect(0);
    assert_eq!(columns(&job), "id,question,reasoning,status,error,attempts,latency_ms", "{}", other.stderr);
    assert_eq!(server.journal().len(), 2, "other columns cost no call");
}

#[test]
fn a_release_of_dspy_with_other_names_runs_untuned_and_says_so_once() {
    let gone_at_import = "import dspy, sys\nimport dspy._vendor.lm15.transports as transports\n\
         name = transports.__name__ + '._proxy'\nimport importlib\nimportlib.import_module(name)\n\
         del transports._proxy\nsys.modules[name] = None\n";
    let gone_at_use = "import dspy\nfrom dspy.clients import backend_selection\n\
         real = backend_selection.select_backend\n\
         backend_selection.select_backend = lambda *given: object() if len(given) == 1 else real(*given)\n";
    let gone_at_calls = "import dspy, types\nfrom dspy.clients import costs\n\
         dspy.clients.costs = types.SimpleNamespace(model_info=costs.model_info)\n";
    let gone_for_errors = "import dspy\nfrom dspy._vendor.lm15 import errors\ndel errors.map_http_error\n";
    let untuned = "is run without tuning";
    for (renamed, said) in [
        (gone_at_import, untuned),
        (gone_at_use, untuned),
        (gone_at_calls, untuned),
        (gone_for_errors, "does not tell all that a server says of its errors"),
    ] {
        let server = Aimock::start(&Fixtures::numbered(20));
        let job = Job::new()
            .questions(20)
            .file("program.py", format!("{renamed}predict = dspy.ChainOfThought('question -> answer')\n"));
        let done = ask(&job, &server, &["--predictor", "program.py:predict"]).expect(0);
        assert_eq!(done.stderr.matches("this release of DSPy").count(), 1, "{}", done.stderr);
        done.says(said);
        assert_eq!(job.column("answer"), (0..20).map(|row| format!("Answer {row}")).collect::<Vec<_>>());
        assert_eq!(server.journal().len(), 20, "one request a row");
    }
}

#[test]
fn a_field_that_no_answer_will_have_is_refused_before_the_first_call() {
    let server = Aimock::start(&Fixtures::numbered(1));
    let job = Job::new().questions(1);
    ask(&job, &server, &["--fields", "answer,confidence"])
        .expect(1)
        .says("the answers have no field `confidence`")
        .says("`reasoning`, `answer`, `finish_reason`");
    assert_eq!(server.journal().len(), 0);
    ask(&job, &server, &["--fields", "answer,,x"]).expect(2);
}

#[test]
fn a_signature_of_several_inputs_and_outputs_takes_and_gives_columns_by_name() {
    let asked = json!({"userMessage": "[[ ## context ## ]]\nThe sky is green.\n\n[[ ## question ## ]]\nWhat colour?"});
    let content = "[[ ## reasoning ## ]]\nIt says so.\n\n[[ ## answer ## ]]\ngreen\n\n[[ ## confidence ## ]]\n0.5\n\n[[ ## completed ## ]]";
    let server = Aimock::start(&Fixtures::default().fixture(&asked, &json!({"content": content})));
    let job = Job::new().file("questions.csv", "passage,question\nThe sky is green.,What colour?\n");
    let signature = ["--signature", "context, question -> answer, confidence: float"];
    ask(&job, &server, &[&signature[..], &["--map", "context=passage", "--retries", "0"]].concat()).expect(0);
    assert_eq!((&*job.column("answer")[0], &*job.column("confidence")[0]), ("green", "0.5"));
    ask(&job, &server, &[&signature[..], &["--force"]].concat()).expect(1).says("`context`");
}

/// What `dspy.ChainOfThought("question -> answer").save(…)` writes, with one example.
const SAVE: &str = r#"
import dspy
program = dspy.ChainOfThought("question -> answer")
program.predict.demos = [dspy.Example(question="What is a shibboleth?", reasoning="Judges 12.", answer="A test")]
program.save("program.json")
async def predict(question):
    return "saved"
class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("question -> answer")
    async def aforward(self, question):
        return await self.step.acall(question=question)
"#;

#[test]
fn a_saved_program_is_loaded_and_part_of_the_jobs_identity() {
    let server = Aimock::start(&Fixtures::numbered(2));
    let job = Job::new().questions(2).predictor(SAVE);
    job.process().expect(0);
    ask(&job, &server, &["--force", "--program", "program.json", "-n", "1"]).expect(0);
    let sent = server.journal();
    assert!(sent[0]["body"].to_string().contains("shibboleth"), "the saved example is shown to the model");

    let changed = job.read("program.json").replace("shibboleth", "sibboleth");
    let job = job.file("program.json", changed);
    job.resume_with(&["--program", "program.json"]).expect(1).says("`--program` was `sha256 ");
    let to = ["--force", "--program", "program.json", "--predictor"];
    ask(&job, &server, &[&to[..], &["predictor.py:Program"]].concat())
        .expect(1)
        .says("is no saved state of this `Program`");
    ask(&job, &server, &[&to[..], &["predictor.py:predict"]].concat())
        .expect(1)
        .says("`predictor.py:predict` is not one");
    let job = job.file("program.pkl", "cos\nsystem\n(S'touch owned'\ntR.");
    ask(&job, &server, &["--force", "--program", "program.pkl"]).expect(1).says("is no `.json` file");
    assert!(!job.path("owned").exists());
    assert_eq!(server.journal().len(), 1);
}

/// A module in a file of its own, saved whole when it is run as a predictor's file.
const WHOLE: &str = r#"
import dspy
class Quiz(dspy.Module):
    def __init__(self):
        super().__init__()
        self.think = dspy.ChainOfThought("question -> answer")
    async def aforward(self, question):
        return await self.think.acall(question=question)
"#;

#[test]
fn a_whole_saved_program_is_loaded_and_part_of_the_jobs_identity() {
    let server = Aimock::start(&Fixtures::numbered(2));
    let save = "import quiz
made = quiz.Quiz()
made.think.predict.demos = [quiz.dspy.Example(question='What is a shibboleth?', reasoning='x', answer='A test')]
made.save('saved', save_program=True)
async def predict(question):
    return 'saved'
";
    let job = Job::new().questions(2).predictor(save).file("quiz.py", WHOLE);
    job.process().expect(0);
    let done = ask(&job, &server, &["--force", "--program", "saved", "-n", "1"]).expect(0);
    done.says("dspy.Module Quiz of `").says("/saved` on openai/gpt-4o-mini");
    let sent = server.journal();
    assert!(sent[0]["body"].to_string().contains("shibboleth"), "the saved example is shown to the model");

    let whole = ["--force", "--program", "saved", "--predictor", "predictor.py:predict"];
    ask(&job, &server, &whole).expect(1).says("/saved` holds a whole program\nhint: leave out `--predictor");
    let changed = job.read("saved/metadata.json") + "\n";
    let job = job.file("saved/metadata.json", changed);
    job.resume().expect(1).says("`--program` was `sha256 ");
    std::fs::remove_file(job.path("saved/program.pkl")).unwrap();
    ask(&job, &server, &["--force", "--program", "saved"]).expect(1).says("/saved` is no saved program: ");
    assert_eq!(server.journal().len(), 1);
}

#[test]
fn a_signature_may_be_a_class_of_a_file_or_a_module() {
    let server = Aimock::start(&Fixtures::numbered(2));
    let class = "import dspy
class Ask(dspy.Signature):
    \"\"\"Answer like a pirate.\"\"\"
    question: str = dspy.InputField()
    answer: str = dspy.OutputField(desc='one word')
class Other: pass
";
    let job = Job::new().questions(2).file("asking.py", class);
    for (spec, rows) in [("asking.py:Ask", "1"), ("asking:Ask", "2")] {
        ask(&job, &server, &["--force", "--signature", spec, "-n", rows]).expect(0);
        assert_eq!(columns(&job), "id,question,reasoning,answer,status,error,attempts,latency_ms");
    }
    assert!(server.journal()[0]["body"].to_string().contains("Answer like a pirate."));
    let refused = ["--force", "--signature", "asking.py:Other"];
    ask(&job, &server, &refused).expect(1).says("`asking.py:Other` is no `dspy.Signature`\nhint: ");
    ask(&job, &server, &["--force", "--signature", "asking:Aks"])
        .expect(1)
        .says("`asking` has no `Aks`; it has `Ask`");
    // What the class says is the prompt.
    let job = job.file("asking.py", class.replace("pirate", "sailor"));
    job.resume().expect(1).says("are `Answer like a sailor.` now");
    job.resume_with(&["--allow-changed"]).expect(0);
}

#[test]
fn a_streamified_program_answers_with_its_prediction_and_times_its_first_token() {
    let server = Aimock::start(&Fixtures::numbered(12));
    for (is_async, listeners) in
        [("True", ""), ("False", ""), ("True", "Listener(signature_field_name='answer')")]
    {
        let job = Job::new().questions(12).predictor(&format!(
            "import dspy\nfrom dspy.streaming import StreamListener as Listener\n\
             program = dspy.ChainOfThought('question -> answer')\n\
             predict = dspy.streamify(program, is_async_program={is_async}, stream_listeners=[{listeners}])\n"
        ));
        let done = ask(&job, &server, &["--predictor", "predictor.py:predict", "-c", "4"]).expect(0);
        let expected: Vec<_> = (0..12).map(|row| format!("Answer {row}")).collect();
        assert_eq!(job.column("answer"), expected, "{}", done.stderr);
        let report = job.report();
        assert_eq!(report["first_chunk_ms"]["count"], 12);
        assert_eq!(report["tokens"], json!({"input": 1200, "output": 120, "calls": 12}));
        assert_eq!(report["cost_usd"], json!(0.000_252), "as of calls that do not stream");
    }
    assert_eq!(server.journal().len(), 36);
}

#[test]
fn a_function_that_is_lent_a_model_tells_its_tokens_whatever_type_it_returns() {
    let server = Aimock::start(&Fixtures::numbered(5));
    let job = Job::new().questions(5).predictor(
        "import dspy, enum\nSize = enum.Enum('Size', {'BIG': 'big'})\nask = dspy.ChainOfThought('question -> answer')\n\
         async def predict(question, row_id):\n    reply = await ask.acall(question=question)\n    \
         return [reply.answer, 1, Size.BIG, None, ['x']][row_id]\n",
    );
    ask(&job, &server, &["--predictor", "predictor.py:predict"]).expect(0);
    assert_eq!(job.column("answer"), ["Answer 0", "1", "big", "", r#"["x"]"#]);
    assert_eq!(job.report()["tokens"], json!({"input": 500, "output": 50, "calls": 5}));
}

#[test]
fn retries_and_caches_below_the_program_are_told_with_the_product_of_attempts() {
    let server = Aimock::start(&Fixtures::numbered(1));
    let own = format!(
        "import dspy\nlm = dspy.LM('openai/gpt-4o-mini', api_base='{}', api_key='none', num_retries=5)\n\
         dspy.configure(lm=lm)\npredict = dspy.ChainOfThought('question -> answer')\n",
        server.base_url()
    );
    let job = Job::new().questions(1).predictor(&own).env("DSPY_CACHEDIR", "cache");
    job.process_with(&["--dry-run"])
        .expect(0)
        .says("`--retries 3` multiplies with `num_retries=5` of the model `openai/gpt-4o-mini`: up to 24 requests per row")
        .says("the cache of the model `openai/gpt-4o-mini` is on");

    let job = Job::new().questions(1).predictor(
        "import openai\nclient = openai.AsyncOpenAI(api_key='none')\nquiet = client.with_options(max_retries=0)\n\
         async def predict(question):\n    return question\n",
    );
    let done = job.process_with(&["--retries", "1"]).expect(0);
    assert_eq!(done.stderr.matches("max_retries").count(), 1, "{}", done.stderr);
    done.says("`--retries 1` multiplies with `max_retries=2` of `client`: up to 6 requests per row");
    let ours = ask(&job, &server, &["--force", "--predictor", "dspy"]).expect(0);
    assert!(!ours.stderr.contains("requests per row"), "{}", ours.stderr);
}

#[test]
fn dspys_own_limit_of_threads_gives_way_to_the_concurrency() {
    let code = "import dspy\nclass Slow(dspy.Module):\n    def forward(self, question):\n        called(1)\n        \
                time.sleep(0.5)\n        called(-1)\n        return dspy.Prediction(answer=question)\n";
    let asyncified = format!(
        "{code}ask = dspy.asyncify(Slow())\nasync def predict(question):\n    return await ask(question=question)\n"
    );
    let job = Job::new().questions(48).predictor(&asyncified);
    job.process_with(&["-c", "24"]).expect(0);
    let most = |calls: &[Value]| {
        let running = calls.iter().scan(0, |now, step| {
            *now += step.as_i64().unwrap();
            Some(*now)
        });
        running.max().unwrap()
    };
    assert_eq!(most(&job.calls()), 24);
    let job =
        Job::new().questions(4).predictor(&format!("{asyncified}dspy.configure(async_max_workers=2)\n"));
    job.process_with(&["-c", "4"]).expect(0).says("`async_max_workers=2` lets `dspy.asyncify`");
    assert_eq!(most(&job.calls()), 2);
}

#[test]
fn a_predictor_that_keeps_the_event_loop_busy_is_told_to_use_less_than_was_requested() {
    let job = Job::new()
        .questions(60)
        .predictor("async def predict(question):\n    time.sleep(0.03)\n    return question\n");
    job.process_with(&["-c", "8"]).expect(0).says("although rows were waiting");
    let awaits = Job::new()
        .questions(60)
        .predictor("async def predict(question):\n    await asyncio.sleep(0.2)\n    return question\n");
    let done = awaits.process_with(&["-c", "8"]).expect(0);
    assert!(!done.stderr.contains("were waiting"), "{}", done.stderr);
}

#[test]
fn as_many_requests_are_in_flight_at_the_server_as_were_requested() {
    let server = Aimock::start(&Fixtures::numbered(600));
    // Longer than it takes a busy machine to send 256 requests.
    server.chaos(&json!({"latencyMs": 2500}));
    let job = Job::new().questions(600);
    ask(&job, &server, &["-c", "256"]).expect(0);
    assert_eq!(server.journal().len(), 600);
    let most = server.most_at_once(2500);
    assert!(most >= 256, "{most} in flight at the server");
    assert_eq!(job.report()["concurrency"]["achieved_max"], 256);
}

/// A server that takes 50 ms, asked by `LiteLLM` one call at a time: the first call is about as fast as the others.
#[track_caller]
fn first_call_is_as_fast_as_others(predictor: Option<&str>, options: &[&str]) {
    let server = Aimock::start(&Fixtures::numbered(4));
    server.chaos(&json!({"latencyMs": 50}));
    let mut job = Job::new().questions(4).args(["--sequential"]);
    if let Some(predictor) = predictor {
        job = job.predictor(&predictor.replace("SERVER", &server.base_url()));
    }
    let own = ["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"];
    let done = if predictor.is_some() { job.run(&own) } else { ask(&job, &server, options) }.expect(0);
    assert_eq!(job.column("answer"), ["Answer 0", "Answer 1", "Answer 2", "Answer 3"]);
    assert_eq!(server.journal().len(), 4, "the warming up asks nobody");
    let took: Vec<f64> = job.column("latency_ms").iter().map(|ms| ms.parse().unwrap()).collect();
    let others = took[1..].iter().copied().fold(0.0, f64::max);
    assert!(took[0] < 3.0 * others + 500.0, "{took:?}");
    assert!(!done.stderr.contains("blocked"), "{}", done.stderr);
}

#[test]
fn litellm_is_imported_before_the_first_call_for_the_model_given() {
    first_call_is_as_fast_as_others(None, &["--lm", "engine=litellm"]);
}

const OWN_MODEL: &str = "import dspy
lm = dspy.LM('openai/gpt-4o-mini', api_base='SERVER', api_key='x', cache=False, num_retries=0, engine='litellm')
";

#[test]
fn litellm_is_imported_before_the_first_call_for_a_model_that_the_program_made() {
    let program = "class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.think = dspy.ChainOfThought('question -> answer')
        self.think.set_lm(lm)
    async def aforward(self, question):
        return await self.think.acall(question=question)
predict = Program()";
    first_call_is_as_fast_as_others(Some(&format!("{OWN_MODEL}{program}")), &[]);
}

#[test]
fn litellm_is_imported_before_the_first_call_for_a_model_that_a_function_asks() {
    let function = "think = dspy.ChainOfThought('question -> answer')
async def predict(question):
    with dspy.context(lm=lm):
        return (await think.acall(question=question)).answer";
    first_call_is_as_fast_as_others(Some(&format!("{OWN_MODEL}{function}")), &[]);
}

/// Asks as DSPy would, by `create`, and reads the answer as DSPy would.
const BY_HAND: &str = "
async def predict(question):
    messages = [{'role': 'user', 'content': f'[[ ## question ## ]]\\n{question}\\n\\n'}]
    reply = await create(messages=messages)
    return reply.choices[0].message.content.split('## answer ## ]]')[1].split('[[')[0].strip()";

#[test]
fn litellm_is_imported_whole_before_the_first_call_of_a_function_that_asks_it() {
    let create = "import functools, litellm
create = functools.partial(litellm.acompletion, model='openai/gpt-4o-mini', api_base='SERVER', api_key='x')";
    first_call_is_as_fast_as_others(Some(&format!("{create}{BY_HAND}")), &[]);
}

#[test]
fn openais_client_is_imported_whole_before_the_first_call_of_a_function_that_asks_by_it() {
    let create = "import openai
client = openai.AsyncOpenAI(base_url='SERVER', api_key='x', max_retries=0)
async def create(messages):
    return await client.chat.completions.create(model='gpt-4o-mini', messages=messages)";
    first_call_is_as_fast_as_others(Some(&format!("{create}{BY_HAND}")), &[]);
}

#[test]
fn litellm_is_not_imported_where_dspy_sends_the_requests_itself() {
    let server = Aimock::start(&Fixtures::numbered(1));
    let model = OWN_MODEL.replace(", engine='litellm'", "").replace("SERVER", &server.base_url());
    let job = Job::new().questions(1).predictor(&format!(
        "{model}
async def predict(question):
    import sys
    return str('litellm' in sys.modules)"
    ));
    job.process().expect(0);
    assert_eq!(job.column("answer"), ["False"]);
}
