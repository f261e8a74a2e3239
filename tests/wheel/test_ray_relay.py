"""The relay of `--ray`, without the program: a coordinator in Python speaks the protocol to it."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import tokio_asyncio_bridge as tab
from coordinator import Message, Relay, Worker, relay
from ray_nodes import Nodes
from tokio_asyncio_bridge import _native

LEASE = 6.0
GONE_AFTER = LEASE + 2.0
# Read by the relay, and passed on to its actors.
SHORT = {"_TOKIO_ASYNCIO_BRIDGE_RAY_LEASE": str(LEASE)}

APP = """
import asyncio, logging, os, pathlib, signal, time

print("loading with", os.environ.get("SECRET_KEY"))
CALLS = pathlib.Path(__file__).with_name("calls")

def note(question):
    with CALLS.open("a") as calls:
        calls.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME)} {question}\\n")

async def answer(question):
    note(question)
    match question:
        case "exit": os._exit(3)
        case "print": print("printed", os.environ.get("SECRET_KEY"), flush=True)
        case "log": logging.getLogger("app").warning("logged %s", os.environ.get("SECRET_KEY"))
        case "sleep": await asyncio.sleep(1000)
        case "lock":
            import ctypes
            ctypes.PyDLL(None).sleep(1000)
        case "steps":
            for step in range(1000):
                note(f"step {step}")
                await asyncio.sleep(0.05)
        case "where": return str(os.getcwd())
    return question.upper()
"""


def request(address: str = "local", **options: Any) -> Message:
    return {"address": address, "actors": None, "version": "0.2.0", "python": _python(), **options}


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def calls(place: Path) -> list[tuple[float, str]]:
    """The calls that began, and when."""
    lines = [line.split(" ", 1) for line in (place / "calls").read_text().splitlines()]
    return [(float(at), question) for at, question in lines]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid: int, within: float = 10) -> bool:
    until = time.monotonic() + within
    while lives(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not lives(pid)


@pytest.fixture
def app(tmp_path: Path) -> str:
    (tmp_path / "app.py").write_text(APP)
    return f"{tmp_path}/app.py:answer"


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.cluster.shutdown()


@pytest.fixture(scope="module")
def local() -> Iterator[Relay]:
    """A relay with a cluster of its own, for tests that leave it as it was."""
    with relay(request()) as running:
        running.hear("connected")
        yield running
        running.say({"close": 10})
        assert running.process.wait(20) == 0


def kill(relay: Relay, worker: Worker) -> None:
    relay.say({"kill": worker.number})
    assert worker.died(10)["proven"]


def test_an_actor_answers_and_what_it_prints_and_logs_is_masked(local: Relay, app: str) -> None:
    worker = local.start()
    worker.placed()
    worker.load(app, secrets=["sk-0123456789"], variables={"SECRET_KEY": "sk-0123456789"})
    assert worker.hear() == {"Printed": b"loading with ***\n"}
    ready = worker.hear()["Ready"]
    assert ready["description"]["spec"] == app
    worker.ask(1, "hello")
    assert worker.answer() == (1, "HELLO")
    worker.ask(2, "print")
    assert worker.hear() == {"Printed": b"printed ***\n"}
    assert worker.answer() == (2, "PRINT")
    worker.ask(3, "log")
    assert worker.hear() == {"Printed": b"logged ***\n"}
    # Longer than what is passed on at once, both ways.
    long = "é" * 500_000
    worker.ask(4, long)
    while (answer := worker.answer())[0] != 4:
        pass
    assert answer[1] == long.upper()
    kill(local, worker)
    session = Path("/tmp/ray/session_latest").resolve()
    found = subprocess.run(["grep", "-rl", "sk-0123456789", session], capture_output=True, text=True)
    assert found.stdout == ""


def test_a_death_is_proven_and_told_once(local: Relay, app: str) -> None:
    worker, other = local.start(), local.start()
    place = worker.ready(app)
    assert lives(place["pid"])
    worker.ask(1, "exit")
    assert worker.died(10) == {"died": worker.number, "how": "died", "proven": True, "oom": False}
    other.ready(app)
    kill(local, other)
    third = local.start()
    third.ready(app)
    third.close()
    assert third.died(10)["proven"], "the coordinator has closed the stream"
    assert local.heard("died") == []


def test_an_actor_that_closes_or_refuses_says_so_before_it_ends(local: Relay, app: str) -> None:
    worker = local.start()
    worker.ready(app)
    worker.say({"Close": [1, 0]})
    assert worker.hear() == "Bye"
    assert worker.died(10)["how"] == "ended"
    assert worker.hear() is None
    refused = local.start()
    place = refused.placed()
    refused.load(app.replace("app.py", "missing.py"))
    assert "missing.py" in refused.hear()["Refused"]
    assert refused.died(10)["how"] == "ended"
    assert refused.hear() is None
    # It is the only node.
    local.say({"refused": refused.number})
    assert ends(place["pid"])


def test_an_actor_waits_for_room(local: Relay, app: str) -> None:
    import os as machine

    full = [local.start() for _ in range(machine.cpu_count() or 1)]
    for worker in full:
        worker.placed()
    waiting = local.start()
    assert "no node has room: 1 CPU" in local.hear("waiting", waiting.number, 20)["why"]
    kill(local, full.pop())
    waiting.placed()
    unwanted = local.start()
    local.say({"kill": unwanted.number})
    assert unwanted.died(10)["how"] == "was ended before it was ready"
    for worker in [*full, waiting]:
        kill(local, worker)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"version": "0.0.1"}, "has tokio-asyncio-bridge 0.2.0, and the program has 0.0.1"),
        ({"python": "3.8"}, "and the program has 3.8"),
        ({"protocol": 0}, f"has worker protocol {_native.PROTOCOL}, and the program has 0"),
        ({"address": "ray://127.0.0.1:10001"}, "`ray job submit"),
        ({"address": "127.0.0.1:9"}, "the Ray cluster `127.0.0.1:9` cannot be reached"),
    ],
)
def test_what_cannot_be_connected_is_refused_with_the_reason(asked: Message, told: str) -> None:
    with relay(request(**asked)) as running:
        assert told in running.hear("failed")["failed"]
        assert running.process.wait(10) == 1


def test_a_cluster_that_a_variable_names_is_refused_as_well() -> None:
    with relay(request("auto"), RAY_ADDRESS="ray://127.0.0.1:10001") as running:
        assert "(`ray://`), which RAY_ADDRESS names, is not" in running.hear("failed")["failed"]


def test_the_end_of_the_coordinator_ends_the_relay_and_the_actors(app: str) -> None:
    with relay(request()) as running:
        running.hear("connected")
        worker = running.start()
        pid = worker.ready(app)["pid"]
        worker.ask(1, "steps")
    assert running.process.returncode == -signal.SIGKILL
    assert ends(pid)


@pytest.mark.cluster
def test_an_actor_that_is_stopped_is_unproven_and_calls_nothing_when_it_goes_on(tmp_path: Path, app: str) -> None:
    with relay(request(), **SHORT) as running:
        running.hear("connected")
        worker = running.start()
        pid = worker.ready(app)["pid"]
        worker.ask(1, "steps")
        time.sleep(0.5)
        os.kill(pid, signal.SIGSTOP)
        stopped = boottime()
        worker.ask(2, "late")
        died = worker.died(GONE_AFTER + 5)
        assert (died["proven"], died["how"]) == (False, f"was not heard for {GONE_AFTER:g} s")
        assert GONE_AFTER - 1 < boottime() - stopped < GONE_AFTER + 2
        os.kill(pid, signal.SIGCONT)
        assert ends(pid)
        assert all(at < stopped + 0.2 for at, _ in calls(tmp_path)), "a call went on after its row was given away"
        another = running.start()
        another.ready(app)
        running.say({"close": 5})


@pytest.mark.cluster
def test_without_its_driver_an_actor_calls_nothing_more(tmp_path: Path, app: str, nodes: Nodes) -> None:
    with relay(request(nodes.cluster.address), **SHORT) as running:
        running.hear("connected")
        worker = running.start()
        pid = worker.ready(app)["pid"]
        worker.ask(1, "steps")
        time.sleep(0.5)
        killed = boottime()
        running.process.kill()
        assert ends(pid, GONE_AFTER)
        assert all(at < killed + GONE_AFTER for at, _ in calls(tmp_path))


@pytest.mark.cluster
def test_nodes_come_and_go(tmp_path: Path, app: str, nodes: Nodes) -> None:
    with relay(request(nodes.cluster.address), **SHORT) as running:
        assert running.hear("connected")["connected"]["capacity"] == 1
        first = running.start()
        first.ready(app)
        second = running.start()
        running.hear("waiting", second.number, 20)
        node = nodes.add()
        assert running.hear("capacity")["capacity"] == 2
        pid = second.ready(app)["pid"]
        # A raylet that is stopped looks like a machine that is gone, though its actor is heard for a while.
        raylet = nodes.raylet(node)
        os.kill(raylet, signal.SIGSTOP)
        try:
            second.ask(1, "steps")
            died = second.died(60)
            given_away = boottime()
            assert not died["proven"]
            assert ends(pid, 1), "it runs, and its rows were given away"
            assert all(at < given_away for at, _ in calls(tmp_path))
            assert running.hear("capacity", within=30)["capacity"] == 1
        finally:
            os.kill(raylet, signal.SIGCONT)
        first.ask(2, "still there")
        assert first.answer() == (2, "STILL THERE")
        running.say({"close": 5})


@pytest.mark.cluster
def test_a_node_with_another_version_is_refused_and_left_out(app: str, nodes: Nodes) -> None:
    nodes.add(OTHER_RAY="2.0.0")
    script = Path(__file__).with_name("other_version.py")
    with relay(request(nodes.cluster.address, cpus=0.5), str(script)) as running:
        assert running.hear("connected")["connected"]["capacity"] == 4
        workers = [running.start() for _ in range(2)]
        # They are spread over the nodes.
        refused = running.hear("cannot")
        assert "does not fit: Ray 2.0.0 is there, and Ray 2.60.0 here" in refused["why"]
        assert running.hear("capacity")["capacity"] == 2
        workers = [worker for worker in workers if worker.number != refused["cannot"]]
        workers.append(running.start())
        assert len({worker.ready(app)["node"] for worker in workers}) == 1
        running.say({"close": 5})


# For a node on which the package is of no use.
LACKS = """
import os, sys

class Lacks:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["LACKS"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Lacks())
"""

HIDES = '''
import importlib.machinery, os, sys

class Hides:
    """Keeps the package from being found where it is installed."""
    def find_spec(self, name, path=None, target=None):
        if name == "tokio_asyncio_bridge":
            path = [at for at in sys.path if at != os.environ["HIDDEN"]]
            found = importlib.machinery.PathFinder.find_spec(name, path)
            if found is None:
                raise ModuleNotFoundError(name, name=name)
            return found

sys.meta_path.insert(0, Hides())
'''


@pytest.mark.cluster
def test_the_package_is_sent_to_nodes_without_it(tmp_path: Path, app: str, nodes: Nodes) -> None:
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "sitecustomize.py").write_text(HIDES)
    installed = str(Path(tab.__file__).parents[1])
    path = os.pathsep.join([str(hiding), os.environ.get("PYTHONPATH", "")])
    nodes.add(HIDDEN=installed, PYTHONPATH=path)
    with relay(request(nodes.cluster.address)) as running:
        connected = running.hear("connected")["connected"]
        assert "this package was sent to" in connected["note"]
        workers = [running.start() for _ in range(2)]
        assert len({worker.ready(app)["node"] for worker in workers}) == 2
        running.say({"close": 5})


@pytest.mark.cluster
def test_a_node_that_cannot_load_the_package_is_named_with_both_platforms_and_left_out(
    tmp_path: Path, app: str, nodes: Nodes
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LACKS)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    here = f"Python {_python()}, {sys.platform}-{platform.machine()}"
    nodes.add(PYTHONPATH=path, LACKS="tokio_asyncio_bridge._native")
    with relay(request(nodes.cluster.address, cpus=0.5)) as running:
        assert running.hear("connected")["connected"]["capacity"] == 4
        # Each lacks something else: the part that is built for a platform; or all, on a node that comes later.
        lacking = {"_native": "cannot import name '_native'", "all": "No module named 'tokio_asyncio_bridge'"}
        for what, error in lacking.items():
            for _ in range(2):
                running.start()
            why = running.hear("cannot")["why"]
            told = f"does not fit: tokio-asyncio-bridge cannot be imported there ({here}; here {here}): "
            assert why.startswith("node ") and told in why, why
            assert error in why and "\nhint: install tokio-asyncio-bridge 0.2.0 there" in why
            running.hear("placed")
            assert running.hear("capacity")["capacity"] == 2
            if what == "_native":
                nodes.add(PYTHONPATH=path, LACKS="tokio_asyncio_bridge")
                assert running.hear("capacity")["capacity"] == 4
        running.say({"close": 5})


@pytest.mark.cluster
def test_a_head_that_is_gone_is_lost(app: str, nodes: Nodes) -> None:
    with relay(request(nodes.cluster.address)) as running:
        running.hear("connected")
        worker = running.start()
        pid = worker.ready(app)["pid"]
        worker.ask(1, "steps")
        nodes.cluster.head_node.kill_gcs_server()
        assert "does not answer" in running.hear("lost", within=40)["lost"]
        assert ends(pid, 1), "it calls for nobody"
        assert running.process.wait(10) == 1


@pytest.mark.cluster
def test_a_coordinator_that_does_not_read_for_long_loses_nothing(app: str) -> None:
    with relay(request(), **SHORT) as running:
        running.hear("connected")
        worker = running.start()
        worker.ready(app)
        worker.reading.clear()
        long = "é" * 2_000_000
        worker.ask(1, long)
        time.sleep(GONE_AFTER + 3)
        assert running.heard("died") == []
        worker.reading.set()
        assert worker.answer() == (1, long.upper())
        running.say({"close": 5})


@pytest.mark.cluster
def test_a_call_that_holds_the_interpreters_lock_ends_with_the_lease(app: str) -> None:
    with relay(request(), **SHORT) as running:
        running.hear("connected")
        worker = running.start()
        worker.ready(app)
        worker.ask(1, "lock")
        died = worker.died(GONE_AFTER + 5)
        assert died["proven"] and died["how"].startswith("did not answer for 6 s, perhaps because code held"), died
        running.say({"close": 5})
