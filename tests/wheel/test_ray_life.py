"""The lives of actors: what the relay of `--ray` does where one, or the head, misbehaves, and when one ends itself."""

import asyncio
import itertools
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError
from tokio_asyncio_bridge._ray import _actor, _cluster, _life, _relay
from tokio_asyncio_bridge._ray._cluster import Cluster, Node

NODE = Node("n", "node (127.0.0.1)", {"CPU": 2})
GONE_AFTER = 1.0


class Actor:
    """An actor that lives here. Each of its methods answers at once, or raises."""

    def __init__(self) -> None:
        self.polls: list[tuple[float, int]] = []
        self.deaths = 0

    def hello(self, lease: float) -> dict[str, Any]:
        return {"node": NODE.id, "pid": 1}

    def pull(self, number: int, acknowledged: int, seconds: float) -> bytes | None:
        self.polls.append((_life.now(), number))
        time.sleep(0.02)
        return b""

    def push(self, offset: int, data: bytes) -> None: ...

    def die(self) -> None:
        self.deaths += 1


class Handle:
    """What Ray has for an actor."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Any:
            reply: Future[Any] = Future()
            try:
                reply.set_result(getattr(self._actor, name)(*arguments))
            except Exception as error:
                reply.set_exception(error)
            return SimpleNamespace(future=lambda: reply)

        return SimpleNamespace(remote=remote)


def live(monkeypatch: pytest.MonkeyPatch, actor: Actor, then: Callable[[_life.Life], Any]) -> list[dict[str, Any]]:
    """The life of the actor, as the coordinator is told. `then` is called once it was placed."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(_life.ray, "kill", lambda _: None)
    for name, value in {"GONE_AFTER": GONE_AFTER, "_ENDING": 0.3, "_RETRY": 0.02}.items():
        monkeypatch.setattr(_life, name, value)
    cluster: Any = SimpleNamespace(
        start=lambda: Handle(actor),
        misfit=lambda facts: None,
        nodes=lambda: [NODE],
        is_left_out=lambda node: False,
    )
    here, there = socket.socketpair()
    there.setblocking(False)

    def placed(number: int, node: str) -> None:
        asyncio.get_running_loop().call_later(0.1, then, life)

    life = _life.Life(1, there, cluster, told.append, placed, lambda: -GONE_AFTER)
    with here:
        asyncio.run(asyncio.wait_for(life.run(), 20))
    return told


def test_an_actor_that_cannot_be_told_to_end_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unavailable(Actor):
        def die(self) -> None:
            super().die()
            if self.deaths < 5:
                raise ActorUnavailableError("it is busy", None)

        def pull(self, *arguments: Any) -> bytes | None:
            if self.deaths == 5:
                raise ActorDiedError
            return super().pull(*arguments)

    actor = Unavailable()
    *_, last = live(monkeypatch, actor, _life.Life.kill)
    assert (actor.deaths, last["died"], last["proven"]) == (5, 1, True)


def test_the_lease_of_an_actor_that_does_not_end_is_not_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[float] = []

    def kill(life: _life.Life) -> None:
        killed.append(_life.now())
        life.kill()

    actor = Actor()
    *_, last = live(monkeypatch, actor, kill)
    assert (last["died"], last["proven"]) == (1, False)
    assert GONE_AFTER < _life.now() - killed[0] < GONE_AFTER + 1
    assert any(number > 0 for at, number in actor.polls if at < killed[0])
    assert all(number == 0 for at, number in actor.polls if at > killed[0] + 0.35)


def test_an_actor_that_the_relay_fails_to_serve_is_not_taken_for_dead_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(Actor):
        def pull(self, *arguments: Any) -> bytes | None:
            super().pull(*arguments)
            if len(self.polls) > 2:
                raise ValueError("what is this?")
            return b""

    actor = Broken()
    *_, last = live(monkeypatch, actor, lambda life: None)
    assert last == {"died": 1, "how": "was given up: ValueError: what is this?", "proven": False, "oom": False}
    assert actor.deaths, "it was not told to end"
    assert _life.now() - actor.polls[1][0] >= GONE_AFTER


def test_a_head_that_answers_is_not_lost_where_all_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_relay, "_LOOK", 0.02)
    monkeypatch.setattr(_relay, "_LOST_AFTER", 0.3)
    told: list[dict[str, Any]] = []
    waiting, capacities = threading.Event(), itertools.count()

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, waiting.wait)
        cluster: Any = SimpleNamespace(nodes=lambda: [NODE], capacity=lambda nodes: next(capacities))
        control: Any = SimpleNamespace(tell=told.append)
        try:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_relay.Relay(control, cluster)._watch([NODE]), 1)
        finally:
            waiting.set()

    asyncio.run(watch())
    assert len(told) > 2


def test_the_head_is_not_asked_where_no_node_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Cluster] = []
    monkeypatch.setattr(Cluster, "nodes", lambda self: asked.append(self) or [NODE, Node("m", "another", {})])
    cluster = Cluster(1.0, 0.0, {})
    assert not cluster.is_left_out("n") and not asked
    cluster.leave_out("n")
    assert cluster.is_left_out("n") and asked


def test_a_node_for_which_the_package_was_not_built_is_told_beside_this_machine() -> None:
    facts = {"ray": "2.60.0", "python": "3.99", "platform": "linux-riscv64", "error": "No module named '_native'"}
    told = Cluster(1.0, 0.0, {}).misfit(facts)
    here = f"Python {sys.version_info.major}.{sys.version_info.minor}, {sys.platform}-{platform.machine()}"
    assert told == (
        f"tokio-asyncio-bridge cannot be imported there (Python 3.99, linux-riscv64; here {here}): "
        "No module named '_native'\n"
        "hint: install tokio-asyncio-bridge 0.2.0 there, or leave the node out of the cluster"
    )


def test_an_actor_is_made_without_the_package_and_is_refused_by_another_python_with_both_versions() -> None:
    code = """
import sys
import ray.cloudpickle
sys.modules["tokio_asyncio_bridge"] = None
sent = sys.stdin.buffer.read()
print(ray.cloudpickle.loads(sent).__name__)
sys.version_info = (3, 99)
ray.cloudpickle.loads(sent)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=ray.cloudpickle.dumps(_actor.Actor), capture_output=True)
    assert done.stdout == b"Actor\n", done.stderr
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"RuntimeError: Python 3.99 is there, and Python {here} here" in done.stderr.decode()


def test_nodes_are_asked_for_the_package_before_packages_are_installed_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(_cluster, "_init", lambda address, runtime_env: made.append(runtime_env))
    monkeypatch.setattr(_cluster.ray, "shutdown", lambda: None)
    monkeypatch.setattr(_cluster, "_without_package", lambda: ([], ["slow"]))
    cluster = Cluster.connect({"address": "auto", "runtime_env": {"pip": ["dspy"], "working_dir": "s3://app.zip"}})
    assert made == [{"working_dir": "s3://app.zip"}, {"pip": ["dspy"], "working_dir": "s3://app.zip"}]
    assert cluster.note == "whether this package is there, slow did not say within 60 s"
    monkeypatch.setattr(_cluster, "_without_package", lambda: (["a", "b"], []))
    made.clear()
    assert "this package was sent to a, b (" in Cluster.connect({"address": "auto"}).note
    assert made == [{}, {"py_modules": [str(Path(_cluster.__file__).parents[1])]}]


def test_an_actor_that_no_node_can_hold_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "nodes", lambda self: [NODE])
    assert Cluster(1.0, 1.0, {}).why_waiting() == (
        "no node is large enough: 1 CPU, 1 GPU asked for, and a node has 2 CPU, 0 GPU at the most\n"
        "hint: ask for less with `--ray-cpus`, `--ray-gpus` or `--ray-resources`, or add such a node"
    )


def test_the_end_of_an_actor_whose_lease_ran_out_is_told_with_what_may_have_held_it_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_life, "LEASE", 0.4)

    class Held(Actor):
        def pull(self, *arguments: Any) -> bytes | None:
            if len(self.polls) > 2:
                time.sleep(0.5)
                raise ActorDiedError
            return super().pull(*arguments)

    *_, last = live(monkeypatch, Held(), lambda life: None)
    how = "did not answer for 0.4 s, perhaps because code held the interpreter's lock"
    assert (last["how"], last["proven"]) == (how, True)


def test_bytes_may_come_twice_and_are_said_until_they_are_acknowledged() -> None:
    code = """
import msgpack
from tokio_asyncio_bridge._native import Serving
serving = Serving(60.0)
message = msgpack.packb({"Hello": ["0.0.1", b""]})
frame = len(message).to_bytes(4, "little") + message
said = len(frame).to_bytes(4, "big") + frame
for at in (4, 4, 0, 2):
    serving.push(at, said[at:])
first = serving.pull(1, 0, 10)
assert b"Refused" in first and b"0.0.1" in first, first
assert serving.pull(1, 0, 10) == first
assert serving.pull(2, 3, 10) == first[3:]
assert serving.pull(3, len(first), 10) is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_polls_a_process_is_killed() -> None:
    code = "import time; from tokio_asyncio_bridge._native import Serving; s = Serving(0.5); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", code], start_new_session=True).returncode == -signal.SIGKILL
