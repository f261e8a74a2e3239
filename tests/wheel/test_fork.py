"""Processes that are made after the import: each may run jobs of its own, or is told why it cannot. None hangs."""

from pathlib import Path

import pytest
from child import run

BEGIN = """
import multiprocessing, os, subprocess, sys, threading, time
from pathlib import Path
import tokio_asyncio_bridge as tab
from jobs import answered, slow

if __name__ == "__main__":
"""
PREDICTORS = """
import asyncio, os, pathlib
async def answer(question): return question.upper()
def plain(question): return question.upper()
async def slow(question):
    pathlib.Path("begun").touch()
    while not pathlib.Path("go").exists(): await asyncio.sleep(0.01)
    return question.upper()
async def pause(question):
    await asyncio.sleep(0.5)
    return question.upper()
def forks(question):
    child = os.fork()
    if child == 0: return "of the child"
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
async def forks_on_the_loop(question):
    return forks(question)
"""
# What the children import too.
JOBS = '''
import threading
import time
from pathlib import Path

import tokio_asyncio_bridge as tab

def answered(name, predictor="app.py:answer"):
    """Runs a job, and returns how many rows it has answered, or the error."""
    try:
        return tab.process("q.csv", f"{name}.csv", predictor=predictor, force=True).rows.ok
    except tab.BridgeError as error:
        return str(error)

def slow():
    """Starts a job on another thread, and returns what ends it, once its first call is made."""
    Path("begun").unlink(missing_ok=True)
    Path("go").unlink(missing_ok=True)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(answered("slow", "app.py:slow")))
    thread.start()
    while not Path("begun").exists():
        time.sleep(0.01)
    def end():
        Path("go").touch()
        thread.join()
        assert ended == [2], ended
    return end
'''


def forked(place: Path, code: str) -> str:
    (place / "jobs.py").write_text(JOBS)
    (place / "app.py").write_text(PREDICTORS)
    (place / "q.csv").write_text("question\na\nb\n")
    indented = "".join(f"    {line}\n" for line in code.strip().splitlines())
    return run(place, BEGIN + indented)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("ran", [False, True])
def test_processes_of_multiprocessing_run_jobs_of_their_own(tmp_path: Path, method: str, ran: bool) -> None:
    forked(
        tmp_path,
        f"""
assert not {ran} or answered("before") == answered("plain", "app.py:plain") == 2
with multiprocessing.get_context("{method}").Pool(2) as pool:
    assert pool.map(answered, "abcd") == [2] * 4
    assert answered("meanwhile") == 2
assert answered("after") == 2
""",
    )


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_they_do_so_while_their_parent_runs_one(tmp_path: Path, method: str) -> None:
    forked(
        tmp_path,
        f"""
context = multiprocessing.get_context("{method}")
end = slow()
with context.Pool(2) as pool:
    assert pool.map(answered, "abcd") == [2] * 4
end()
""",
    )


def test_a_child_forked_during_a_job_is_told_so_and_is_clean_otherwise(tmp_path: Path) -> None:
    forked(
        tmp_path,
        """
from process_state import snapshot
def state():
    return {name: value for name, value in snapshot().items() if name in NAMES}
NAMES = ("signal handlers", "signals blocked", "environment", "sys.path", "loggers", "hooks", "SigBlk")
before, streams = state(), (sys.stdout, sys.stderr)
end = slow()
def child(number):
    said = answered("child")
    assert "forked while a job was running" in said and "spawn" in said, said
    assert state() == before, [name for name in NAMES if state()[name] != before[name]]
    assert (sys.stdout, sys.stderr) == streams
    # What needs no interpreter of ours works.
    assert subprocess.run(["true"]).returncode == 0
    # Grandchildren of fresh interpreters may run jobs.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(answered, ["grandchild"]) == [2]
context = multiprocessing.get_context("fork")
for number in range(3):
    process = context.Process(target=child, args=(number,))
    process.start()
    process.join(60)
    assert process.exitcode == 0, process.exitcode
plain = os.fork()
if plain == 0:
    sys.exit(0 if "forked while" in answered("child") else 1)  # Its exit functions do not wait for the parent's job.
assert os.waitstatus_to_exitcode(os.waitpid(plain, 0)[1]) == 0
end()
assert answered("after") == 2
""",
    )


def test_a_child_forked_by_whoever_waits_for_a_job_is_told_so_where_it_waits_on(tmp_path: Path) -> None:
    forked(
        tmp_path,
        """
parent, children = os.getpid(), []
def progress(_):
    if not children:
        children.append(os.fork())
try:
    report = tab.process("q.csv", "a.csv", predictor="app.py:pause", progress=progress)
except tab.BridgeError as error:
    os._exit(7 if os.getpid() != parent and "forked while a job was running" in str(error) else 1)
assert os.getpid() == parent and report.rows.ok == 2
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
""",
    )


FORKS = """
parent, children = os.getpid(), []
def fork():
    if os.getpid() == parent:
        children.append(os.fork())
def ended(error):
    os._exit(7 if os.getpid() != parent and "forked while a job was running" in str(error) else 1)
def rows(count, forks):
    for number in range(count):
        if number % (count // 20) == 0 and forks:
            fork()
        yield {"question": f"q{number}"}
def waited_for(outcomes, count):
    assert os.getpid() == parent and len(outcomes) == count and all(outcome.ok for outcome in outcomes)
    assert children
    until = time.monotonic() + 60
    for child in children:
        while (found := os.waitpid(child, os.WNOHANG))[0] == 0:
            assert time.monotonic() < until, "a child hangs"
            time.sleep(0.01)
        assert os.waitstatus_to_exitcode(found[1]) == 7, found
"""


@pytest.mark.parametrize("by", ["progress", "rows"])
def test_so_is_one_that_goes_on_with_a_map_of_its_parent(tmp_path: Path, by: str) -> None:
    forked(
        tmp_path,
        FORKS
        + f"""
async def answer(question): return question.upper()
progress = (lambda _: fork()) if "{by}" == "progress" else None
try:
    outcomes = tab.map(rows(40_000, "{by}" == "rows"), answer, concurrency=100, progress=progress)
except tab.BridgeError as error:
    ended(error)
waited_for(outcomes, 40_000)
""",
    )


@pytest.mark.parametrize("by", ["consumer", "rows"])
def test_so_is_one_that_goes_on_with_a_stream_of_its_parent(tmp_path: Path, by: str) -> None:
    forked(
        tmp_path,
        FORKS
        + f"""
import asyncio
async def answer(question):
    await asyncio.sleep(0.001)
    return question.upper()
async def main():
    outcomes = []
    try:
        async for outcome in tab.stream(rows(2_000, "{by}" == "rows"), answer, concurrency=10):
            outcomes.append(outcome)
            if len(outcomes) % 100 == 1 and "{by}" == "consumer":
                fork()
    except tab.BridgeError as error:
        ended(error)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    waited_for(outcomes, 2_000)
asyncio.run(main())
""",
    )


def test_the_journals_lock_is_not_the_childs(tmp_path: Path) -> None:
    forked(
        tmp_path,
        """
end = slow()
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
end()
assert answered("slow") == 2, "the child holds the lock"
os.kill(child, 9)
os.waitpid(child, 0)
""",
    )


@pytest.mark.parametrize("name", ["forks", "forks_on_the_loop"])
def test_a_child_that_a_predictor_forks_ends_where_the_predictor_returns(tmp_path: Path, name: str) -> None:
    forked(
        tmp_path,
        f"""
assert answered("forks", "app.py:{name}") == 2
text = Path("forks.csv").read_text()
assert text.count(",0,ok,") == 2 and "child" not in text, text
assert answered("after") == 2
""",
    )


def test_a_server_that_forks_its_workers_runs_a_job_in_each(tmp_path: Path) -> None:
    forked(
        tmp_path,
        """
import socket, socketserver
assert answered("warm-up") == 2
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        name = self.rfile.readline().decode().strip()
        self.wfile.write(str(answered(name)).encode())
class Server(socketserver.ForkingMixIn, socketserver.TCPServer):
    pass
def ask(server, name):
    with socket.create_connection(server.server_address, 60) as connection:
        connection.sendall(name.encode() + b"\\n")
        return connection.makefile().read()
with Server(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert [ask(server, name) for name in "abc"] == ["2"] * 3
    # The job of this process and those of the children do not meet, if no job runs at the fork.
    assert answered("beside") == 2
    server.shutdown()

# Workers that are forked before any request.
pipes = [os.pipe() for _ in range(3)]
children = []
for number, (_, write) in enumerate(pipes):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for turn in range(3):
                os.write(write, str(answered(f"{number}-{turn}")).encode())
            code = 0
        finally:
            os._exit(code)
    children.append(child)
assert all(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children)
assert all(os.read(read, 100) == b"222" for read, _ in pipes)
""",
    )


def test_commands_are_run_during_a_job(tmp_path: Path) -> None:
    forked(
        tmp_path,
        """
end = slow()
for _ in range(20):
    assert subprocess.run([sys.executable, "-S", "-c", "print(1)"], capture_output=True).stdout == b"1\\n"
    assert os.system("true") == 0
    assert subprocess.run(["true"], preexec_fn=lambda: None).returncode == 0
end()
""",
    )
