//! What stands unseen between a predictor and its server: clients that repeat requests, pools smaller than `-c`. The
//! clients are the real ones, and requests are counted at the server.

use super::support::aimock::{Aimock, Fixtures};
use super::support::job::{Job, PLACES};
use serde_json::json;

/// Asks for one chat completion with what `self.client` is.
const ASKING: &str = "
    async def __call__(self, question):
        asked = [{'role': 'user', 'content': f'[[ ## question ## ]]\\n{question}\\n\\n'}]
        await self.client.chat.completions.create(model='gpt-4o-mini', messages=asked)
        return question";

#[test]
fn a_client_is_found_wherever_it_is_kept_and_repeats_as_often_as_was_told() {
    let make = "openai.AsyncOpenAI(base_url=os.environ['URL'], api_key='none')";
    let kept = [
        (format!("class P:\n    def __init__(self):\n        self.client = {make}{ASKING}"), "`P.client`"),
        (format!("class P:\n    client = {make}{ASKING}"), "`P.client`"),
        (
            format!(
                "class P:\n    def __init__(self):\n        self.clients = [{make}]\n    @property\n    def client(self):\n        called('property')\n        return self.clients[0]{ASKING}"
            ),
            "`P.clients`",
        ),
        (
            format!(
                "class Backend:\n    def __init__(self):\n        self.client = {make}\nclass P:\n    def __init__(self):\n        self.backend = Backend()\n        self.client = self.backend.client.with_options(max_retries=0).with_options(max_retries=2){ASKING}"
            ),
            "`P.client`",
        ),
        (
            format!(
                "class Q:\n    def __init__(self, client):\n        self.client = client{ASKING}\ndef made():\n    inner = Q({make})\n    async def ask(question):\n        return await inner(question)\n    return ask\nP = made()"
            ),
            "`inner.client`",
        ),
    ];
    // Once on workers too.
    let all = kept.iter().map(|one| (one, PLACES[0])).chain([(&kept[0], PLACES[1])]);
    for ((code, name), workers) in all {
        let server = Aimock::start(&Fixtures::default().fail("Question 0?", 500));
        let job = Job::new().questions(1).env("URL", &server.base_url()).env("TAB_WORKERS", workers);
        let job = job.predictor(&format!("import openai\n{code}\n"));
        let done = job.run(&[
            "process",
            "questions.csv",
            "-o",
            "answers.csv",
            "--predictor",
            "predictor.py:P",
            "--retries",
            "0",
        ]);
        done.expect(3).says(&format!(
            "`--retries 0` multiplies with `max_retries=2` of {name}: up to 3 requests per row"
        ));
        assert_eq!(server.journal().len(), 3, "{code}");
        assert!(job.calls().len() <= 3, "the property ran for the warning: {:?}", job.calls());
    }
}

#[test]
fn looking_runs_none_of_the_users_code() {
    for workers in PLACES {
        let hostile = "
def touched(*_):
    called('touched')
    raise SystemExit('touched')
class Evil:
    __slots__ = ('unset', 'held')
    __getattr__ = __getattribute__ = __eq__ = __hash__ = __iter__ = __bool__ = touched
    __class__ = property(touched)
class Weird:
    __module__ = ['no', 'name']
    __dict__ = property(touched)
class predict:
    evil = Evil()
    def __init__(self):
        self.weird, self.ring = Weird(), [self]
        self.ring.append(self.ring)
    async def __call__(self, question):
        return question
";
        let job = Job::new().env("TAB_WORKERS", workers).questions(1).predictor(hostile);
        job.process().expect(0);
        assert_eq!(job.calls(), Vec::<serde_json::Value>::new());
    }
}

/// What the predictors below start with: `body(question)` asks for one chat completion at `url`.
const POSTING: &str = r"
import aiohttp, httpx, requests
from concurrent.futures import ThreadPoolExecutor
url = os.environ['URL'] + '/chat/completions'
def body(question):
    return {'model': 'm', 'messages': [{'role': 'user', 'content': f'[[ ## question ## ]]\n{question}\n\n'}]}
def post(question):
    requests.post(url, json=body(question)).raise_for_status()
    return question
async def post_by(client, question):
    (await client.post(url, json=body(question), timeout=60)).raise_for_status()
    return question
";

/// Runs 24 rows at `-c 24`; returns what was said and the most requests at once at the server.
fn run(predictor: &str) -> (String, usize) {
    const ROWS: usize = 24;
    let server = Aimock::start(&Fixtures::numbered(ROWS));
    server.chaos(&json!({"latencyMs": 1000}));
    let job = Job::new().questions(ROWS).env("URL", &server.base_url());
    let job = job.predictor(&format!("{POSTING}{predictor}"));
    let done = job.process_with(&["-c", "24"]).expect(0);
    (done.stderr, server.most_at_once(1000))
}

#[test]
fn threads_of_the_loop_are_as_many_as_the_concurrency() {
    for on_thread in [
        "asyncio.to_thread(post, question)",
        "asyncio.get_running_loop().run_in_executor(None, post, question)",
    ] {
        let (said, most) = run(&format!("async def predict(question):\n    return await {on_thread}\n"));
        assert_eq!((most, said.contains("at once (")), (24, false), "{on_thread}: {said}");
    }
}

/// Predictors whose own pool takes so many at once.
fn pooled(limit: u32) -> [(String, String); 4] {
    let httpx = format!(
        "client = httpx.AsyncClient(limits=httpx.Limits(max_connections={limit}))
async def predict(question):
    return await post_by(client, question)
"
    );
    let aiohttp = format!(
        "class predict:
    def __init__(self):
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit={limit}))
    async def __call__(self, question):
        async with self.session.post(url, json=body(question)) as response:
            response.raise_for_status()
        return question
"
    );
    let threads = format!(
        "def made(pool):
    async def predict(question):
        return await asyncio.get_running_loop().run_in_executor(pool, post, question)
    return predict
predict = made(ThreadPoolExecutor({limit}))
"
    );
    let gate = format!(
        "class predict:
    gate = asyncio.Semaphore({limit})
    def __init__(self):
        self.client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None))
    async def __call__(self, question):
        async with self.gate:
            return await post_by(self.client, question)
"
    );
    let takes = |name: &str, setting: &str| {
        format!("`{name}` takes only {limit} calls at once (`{setting}={limit}`), and `-c` is 24")
    };
    [
        (httpx, takes("client", "max_connections")),
        (aiohttp, takes("predict.session", "limit")),
        (threads, takes("pool", "max_workers")),
        (gate, takes("predict.gate", "value")),
    ]
}

#[test]
fn a_pool_that_takes_fewer_than_the_concurrency_is_told_once() {
    for (predictor, told) in pooled(6) {
        let (said, most) = run(&predictor);
        assert_eq!((said.matches("at once (").count(), most), (1, 6), "{predictor}\n{said}");
        assert!(said.contains(&told), "no `{told}` in {said}");
    }
}

#[test]
fn a_pool_as_wide_as_the_concurrency_is_no_matter() {
    for (predictor, _) in pooled(24) {
        let (said, most) = run(&predictor);
        assert_eq!((said.contains("at once ("), most), (false, 24), "{predictor}\n{said}");
    }
}

#[test]
fn a_keyword_default_is_looked_at_too() {
    let predictor = "async def predict(question, *, gate=asyncio.Semaphore(1)):\n    return question\n";
    let job = Job::new().questions(1).predictor(predictor);
    job.process_with(&["-c", "2"]).expect(0).says("`predict` takes only 1 call at once (`value=1`)");
}

#[test]
fn a_model_that_a_module_keeps_for_itself_is_looked_at_and_the_one_replaced_is_not() {
    for workers in PLACES {
        let module = "import dspy
lm = dspy.LM('openai/replaced', api_base=os.environ['URL'], api_key='none', cache=True, num_retries=7)
dspy.configure(lm=lm)
class Quiz(dspy.Module):
    def __init__(self):
        super().__init__()
        self.judge = dspy.LM('openai/judge', api_base=os.environ['URL'], api_key='none', cache=True, num_retries=5)
        self.ask = dspy.ChainOfThought('question -> answer')
    async def aforward(self, question):
        with dspy.context(lm=self.judge):
            return await self.ask.acall(question=question)
predict = Quiz()
";
        let server = Aimock::start(&Fixtures::numbered(1));
        let job = Job::new()
            .env("TAB_WORKERS", workers)
            .questions(1)
            .env("URL", &server.base_url())
            .predictor(module);
        // Or the cache of another run answers.
        let cache = job.path("cache").to_string_lossy().into_owned();
        let job = job.env("DSPY_CACHEDIR", &cache);
        let base = server.base_url();
        let done = job.process_with(&["--model", "openai/ours", "--api-base", &base]).expect(0);
        let said = done.stderr;
        for told in ["`num_retries=5` of `Quiz.judge`", "the cache of `Quiz.judge` is on"] {
            assert!(said.contains(told), "no `{told}` in {said}");
        }
        assert!(!said.contains("num_retries=7") && !said.contains("cache of `lm`"), "{said}");
        assert_eq!(server.journal()[0]["body"]["model"], "judge");
    }
}
