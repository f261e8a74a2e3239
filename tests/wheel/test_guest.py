"""A job leaves the process that it was called in as it was."""

import subprocess
import sys
from pathlib import Path

import pytest
from child import run

# What every program of this file begins with.
BEGIN = """
import asyncio, atexit, contextlib, io, os, sys, threading
from pathlib import Path
import tokio_asyncio_bridge as tab
from process_state import differences, settled

# With the first thread the C library takes a signal of its own, and with the first loop uvloop a pipe.
def once():
    with contextlib.suppress(ImportError):
        import uvloop
        uvloop.new_event_loop().close()
thread = threading.Thread(target=once)
thread.start()
thread.join()
while len(os.listdir("/proc/self/task")) > 1:
    pass

def check(what, before):
    found = differences(before)
    assert not found, f"{what}: {found}"

Path("q.csv").write_text("question\\na\\nb\\nc\\nd\\n")
Path("app.py").write_text('''
import asyncio, os
import helper
async def answer(question): return helper.upper(question)
def plain(question): return helper.upper(question)
async def thread(question): return await asyncio.to_thread(helper.upper, question)
async def fails(question): raise ValueError(question)
async def key(question): return os.environ["SOME_KEY"][:4]
async def prints(question):
    print("asked", question, os.environ.get("SOME_KEY"), flush=True)
    return "yes"
''')
Path("helper.py").write_text("def upper(text): return text.upper()")
Path("vars.env").write_text("SOME_KEY=sk-0123456789\\nOTHER=x\\n")
"""


def test_nothing_of_the_process_is_otherwise_after_a_job_however_it_ends(tmp_path: Path) -> None:
    run(
        tmp_path,
        BEGIN
        + """
def jobs():
    for kind in ("asyncio", "auto"):
        for name in ("answer", "plain", "thread"):
            report = tab.process("q.csv", "a.csv", predictor=f"app.py:{name}", event_loop=kind, force=True)
            assert report.rows.ok == 4
            yield name
    report = tab.process("q.csv", "f.csv", predictor="app.py:fails", force=True)
    assert report.rows.failed == 4
    yield "fails"
    for spec in ("app.py:missing", "nothing.py:answer", "no.such.module:answer"):
        try:
            tab.process("q.csv", "n.csv", predictor=spec, force=True)
        except tab.PredictorError:
            yield spec
    report = tab.process("q.csv", "k.csv", predictor="app.py:key", env_file="vars.env", force=True)
    assert report.rows.ok == 4
    yield "env file"
    try:
        tab.process("missing.csv", predictor="app.py:answer")
    except tab.InputError:
        yield "no input"
    stop = tab.Stop()
    stops = lambda _: stop.requests or stop.stop()
    with contextlib.suppress(tab.StoppedError):
        tab.process("q.csv", "s.csv", predictor="app.py:answer", stop=stop, progress=stops, force=True)
    yield "stopped"

first = settled()
for round in range(2):
    before = settled()
    if round == 0:
        # The one exit function that stays.
        before["exit functions"] += 1
    for what in jobs():
        check(what, before)
assert atexit._ncallbacks() == first["exit functions"] + 1
""",
    )


def test_dspy_and_litellm_are_as_they_were(tmp_path: Path) -> None:
    run(
        tmp_path,
        BEGIN
        + """
import http.server, json
import dspy, litellm
import dspy.clients.engines.litellm_engine
from dspy.utils import DummyLM

class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        content = "[[ ## reasoning ## ]]\\nr\\n\\n[[ ## answer ## ]]\\nyes\\n\\n[[ ## completed ## ]]\\n"
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        reply["usage"] = usage
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

server = http.server.HTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/v1"
Path("own.py").write_text('''
import dspy
from dspy.utils import DummyLM
dspy.configure(lm=DummyLM([{"answer": "theirs"}] * 100), trace=[])
program = dspy.Predict("question -> answer")
''')
Path("none.py").write_text('''
import dspy
program = dspy.Predict("question -> answer")
''')
mine = DummyLM([{"answer": "mine"}] * 100)
dspy.configure(lm=mine)

def answers(file):
    return [line.split(",")[1] for line in Path(file).read_text().splitlines()[1:]]

def jobs():
    report = tab.process("q.csv", "m.csv", predictor="dspy", model="openai/gpt-4o-mini", api_base=url, force=True,
                         concurrency=200)
    assert report.rows.ok == 4, report
    yield "dspy"
    tab.process("q.csv", "o.csv", predictor="own.py:program", force=True)
    assert answers("o.csv") == ["theirs"] * 4, answers("o.csv")
    yield "a file that configures a model"
    tab.process("q.csv", "n.csv", predictor="none.py:program", force=True)
    assert answers("n.csv") == ["mine"] * 4, answers("n.csv")
    yield "a file that configures none"
    tab.process("q.csv", "l.csv", predictor="app.py:answer", model="openai/gpt-4o-mini", api_base=url, force=True)
    yield "a model that is lent"
    report = tab.process("q.csv", "t.csv", predictor="dspy", model="litellm_proxy/x", api_base=url, force=True,
                         lm={"api_key": "sk-0123456789"})
    assert report.rows.ok == 4, report
    yield "through LiteLLM"

before = settled()
# OpenAI and LiteLLM, which the first calls import, add to these; libuv keeps its pool of threads.
added = ("loggers", "exit functions", "LiteLLM", "files", "threads")
for what in jobs():
    check(what, {name: state for name, state in before.items() if name not in added})
before = settled()
for what in jobs():
    check(what, before)
dspy.configure(lm=mine)  # The settings are still this thread's.
""",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )


def test_what_the_predictor_prints_goes_where_the_callers_prints_go_with_keys_masked(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        BEGIN
        + """
before = settled()
cell = io.StringIO()
with contextlib.redirect_stdout(cell):
    tab.process("q.csv", "a.csv", predictor="app.py:prints", env_file="vars.env", concurrency=1)
    print("done")
assert cell.getvalue() == "".join(f"asked {name} ***\\n" for name in "abcd") + "done\\n", cell.getvalue()

class Notebook:
    "A stream that is none of `io`'s, as a notebook's is."
    def __init__(self): self.text = ""
    def write(self, text): self.text += text; return len(text)
    def flush(self): pass
    def of_notebook(self): return self.text

class Kept(Notebook):
    "One that somebody puts in its place during the job, and takes away afterwards."

stream, sys.stdout = sys.stdout, Notebook()
notebook = sys.stdout
kept = []
def progress(_):
    assert isinstance(sys.stdout, Notebook) and sys.stdout.of_notebook() == notebook.text
    kept.append(sys.stdout)
tab.process("q.csv", "b.csv", predictor="app.py:prints", env_file="vars.env", concurrency=1, progress=progress)
assert sys.stdout is notebook
for veil in kept:
    print("of the user", file=veil)
sys.stdout = stream
assert notebook.text.startswith("".join(f"asked {name} ***\\n" for name in "abcd")), notebook.text
assert "of the user" in notebook.text or not kept
check("prints", {**before, "exit functions": before["exit functions"] + 1})
print("of the process")
""",
        SOME_OTHER="x",
    )
    assert printed == "of the process\n"


def test_jobs_at_once_and_after_one_another_from_several_threads(tmp_path: Path) -> None:
    run(
        tmp_path,
        BEGIN
        + """
from concurrent.futures import ThreadPoolExecutor
before = settled()
before["exit functions"] += 1
def job(number):
    name = ("answer", "plain", "thread", "fails")[number % 4]
    report = tab.process("q.csv", f"{number}.csv", predictor=f"app.py:{name}", concurrency=2,
                         env_file="vars.env" if number % 2 else None)
    return (report.rows.ok, report.rows.failed) == ((0, 4) if name == "fails" else (4, 0))
with ThreadPoolExecutor(4) as pool:
    assert all(pool.map(job, range(16)))
check("many", before)
Path("other.env").write_text("SOME_KEY=sk-9876543210")
Path("slow.py").write_text('''
import asyncio, pathlib
async def answer(question):
    pathlib.Path("begun").touch()
    while not pathlib.Path("go").exists(): await asyncio.sleep(0.01)
    return question
''')
thread = threading.Thread(target=tab.process, args=("q.csv", "slow.csv"),
                          kwargs={"predictor": "slow.py:answer", "env_file": "vars.env"})
thread.start()
while not Path("begun").exists(): pass
try:
    tab.process("q.csv", "refused.csv", predictor="app.py:key", env_file="other.env")
    raise SystemExit("two values at once")
except tab.PredictorError as error:
    assert "SOME_KEY" in str(error) and "9876" not in str(error), error
tab.process("q.csv", "same.csv", predictor="app.py:key", env_file="vars.env")
assert os.environ["SOME_KEY"].startswith("sk-0")
Path("go").touch()
thread.join()
check("two values", before)
""",
    )


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("module", ["numpy", "pyarrow", "pandas"])
def test_other_compiled_modules_load_before_and_after(tmp_path: Path, module: str, order: str) -> None:
    imports = [f"import {module}", "import tokio_asyncio_bridge as tab"]
    lines = "\n".join(imports if order == "first" else reversed(imports))
    use = {
        "numpy": "numpy.ones(1_000_000).sum()",
        "pyarrow": "pyarrow.array(range(100_000)).to_pylist()[-1]",
        "pandas": "pandas.DataFrame({'a': range(100_000)}).a.sum()",
    }[module]
    run(
        tmp_path,
        f"""
from pathlib import Path
{lines}
Path("q.csv").write_text("question\\na\\nb\\n")
Path("app.py").write_text("import {module}\\nasync def answer(question): return str({use})")
for number in range(3):
    {use}
    assert tab.process("q.csv", f"{{number}}.csv", predictor="app.py:answer").rows.ok == 2
    {use}
""",
    )


@pytest.mark.parametrize("before", ["", "import tokio_asyncio_bridge"])
def test_a_sub_interpreter_is_refused(tmp_path: Path, before: str) -> None:
    # Python 3.13 has another module for it, which tells of a failure instead of raising it.
    code = f"""
import sys
{before}
code = "import tokio_asyncio_bridge"
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    failure = interpreters.run_string(interpreters.create(), code)
    told = failure and failure.formatted
else:
    import _xxsubinterpreters as interpreters
    try:
        told = interpreters.run_string(interpreters.create(), code)
    except interpreters.RunFailedError as error:
        told = str(error)
assert told and "ImportError" in told and "interpreter" in told, told
"""
    run(tmp_path, code)


@pytest.mark.parametrize("kind", ["asyncio", "auto"])
@pytest.mark.parametrize("doing", ["await asyncio.sleep(60)", "time.sleep(0.05)", "sum(range(1000))", "time.sleep(60)"])
def test_the_interpreter_ends_while_a_run_goes_on(tmp_path: Path, doing: str, kind: str) -> None:
    run(
        tmp_path,
        f"""
import threading, time
from pathlib import Path
import tokio_asyncio_bridge as tab
Path("q.csv").write_text("question\\n" + "a\\n" * 100_000)
Path("app.py").write_text('''
import asyncio, pathlib, time
async def answer(question):
    pathlib.Path("begun").touch()
    while True: {doing}
''')
def job():
    tab.process("q.csv", "a.csv", predictor="app.py:answer", event_loop="{kind}", concurrency=4)
threading.Thread(target=job, daemon=True).start()
while not Path("begun").exists(): time.sleep(0.01)
time.sleep(0.2)
""",
    )


def test_the_interpreter_ends_after_runs_and_waits_for_those_of_its_threads(tmp_path: Path) -> None:
    run(
        tmp_path,
        BEGIN
        + """
Path("app.py").write_text("import asyncio\\nasync def answer(question): await asyncio.sleep(0.2); return question")
tab.process("q.csv", "a.csv", predictor="app.py:answer")
threading.Thread(target=tab.process, args=("q.csv", "b.csv"), kwargs={"predictor": "app.py:answer"}).start()
""",
    )
    assert (tmp_path / "b.csv").read_text().count("ok") == 4


def test_a_run_whose_process_is_killed_is_taken_up_at_the_shell_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    from child import start

    (tmp_path / "q.csv").write_text("question\n" + "".join(f"q{number}\n" for number in range(40)))
    (tmp_path / "app.py").write_text(
        "import asyncio, pathlib\n"
        "async def answer(question):\n"
        "    with pathlib.Path(__file__).with_name('calls').open('a') as calls: calls.write(question + '\\n')\n"
        "    await asyncio.sleep(0.02)\n"
        "    return question.upper()\n"
    )
    child = start(
        tmp_path,
        """
        import os, signal
        import tokio_asyncio_bridge as tab
        def progress(standing):
            if standing.ok >= 10: os.kill(os.getpid(), signal.SIGKILL)
        tab.process("q.csv", "a.csv", predictor="app.py:answer", concurrency=2, progress=progress)
        """,
    )
    assert child.wait(60) == -9
    asked = (tmp_path / "calls").read_text().split()
    assert 10 <= len(asked) < 40
    command = [sys.executable, "-m", "tokio_asyncio_bridge", "resume", "a.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "calls").read_text().split()
    # Those in flight when the process died are asked again, and no others.
    assert len(set(asked)) == 40 and len(asked) <= 42, asked
    assert (tmp_path / "a.csv").read_text().count(",ok,") == 40
