"""A DSPy program on a cluster of several nodes that come, die and are lost. An API server answers, and the calls are
counted where they are made."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")

from ray_nodes import Nodes

ROWS = 200
IN_FLIGHT = 16
SERVER = Path(__file__).parents[1] / "node_modules/@copilotkit/aimock/dist/cli.js"
# An actor that is not heard ends itself after so many seconds.
LEASE = {"_TOKIO_ASYNCIO_BRIDGE_RAY_LEASE": "6"}

PROGRAM = """
import asyncio, os
import dspy, ray

NODE = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"

class Quiz(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question):
        with open(os.environ["CALLS"], "a") as calls:
            calls.write(f"{question},{NODE}\\n")
        await asyncio.sleep(float(os.environ["PAUSE"]))
        return await self.answer.acall(question=question)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an API server that knows the answers."""
    assert SERVER.exists(), "it is missing: run `make tests/node_modules/.installed`"

    def fixture(row: int) -> object:
        content = f"[[ ## answer ## ]]\nAnswer {row}\n\n[[ ## completed ## ]]"
        return {
            "match": {"userMessage": f"[[ ## question ## ]]\nQuestion {row}?\n\n"},
            "response": {"content": content},
        }

    place = tmp_path_factory.mktemp("server")
    (place / "answers.json").write_text(json.dumps({"fixtures": [fixture(row) for row in range(ROWS)]}))
    command = ["node", SERVER, "--port", "0", "-f", place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if "http://" in line:
                yield "http://" + line.partition("http://")[2].split()[0] + "/v1"
                break
        process.kill()


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.cluster.shutdown()


class Quiz:
    """The job, in a directory of its own."""

    def __init__(self, place: Path, server: str) -> None:
        self.place = place
        self._model = ["--model", "openai/gpt-4o-mini", "--api-base", server]
        self._calls = place / "calls"
        self._calls.touch()
        (place / "app.py").write_text(PROGRAM)
        questions = "".join(f"Question {row}?\n" for row in range(ROWS))
        (place / "q.csv").write_text("question\n" + questions)

    def start(self, *words: str, answers: str = "a.csv", pause: float = 0.3) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tokio_asyncio_bridge", *words]
        if words[0] == "process":
            command += ["q.csv", "-o", answers, "--predictor", "app.py:Quiz", "-c", str(IN_FLIGHT), *self._model]
        variables = {**os.environ, **LEASE, "CALLS": str(self._calls), "PAUSE": str(pause), "OPENAI_API_KEY": "none"}
        return subprocess.Popen(command, cwd=self.place, env=variables, stderr=subprocess.PIPE, text=True)

    def calls(self) -> list[tuple[str, str]]:
        """The question of each call that has begun, and the node."""
        return [(question, node) for question, node in csv.reader(self._calls.read_text().splitlines())]

    def forget(self) -> None:
        self._calls.write_text("")

    def wait_for(self, done: Callable[[list[tuple[str, str]]], bool], within: float = 120) -> None:
        until = time.monotonic() + within
        while not done(self.calls()):
            assert time.monotonic() < until, self.calls()[-3:]
            time.sleep(0.05)

    def answers(self, file: str = "a.csv") -> list[tuple[str, str]]:
        with (self.place / file).open(newline="") as answers:
            return [(row["question"], row["answer"]) for row in csv.DictReader(answers)]


@pytest.fixture
def quiz(tmp_path: Path, server: str) -> Quiz:
    return Quiz(tmp_path, server)


ALL = [(f"Question {row}?", f"Answer {row}") for row in range(ROWS)]
KEYS = "--ray-env", "CALLS", "--ray-env", "PAUSE", "--ray-env", "OPENAI_API_KEY"


@pytest.mark.once
def test_a_node_dies_and_another_comes_and_every_row_is_answered_once(quiz: Quiz, nodes: Nodes) -> None:
    second = nodes.add()
    run = quiz.start("process", "--ray", nodes.cluster.address, "--ray-actors", "2", *KEYS, pause=2)
    quiz.wait_for(lambda calls: len({node for _, node in calls}) == 2 and len(calls) > 40)
    before = {node for _, node in quiz.calls()}
    assert len(quiz.calls()) < ROWS, "no row was open"
    os.kill(nodes.raylet(second), signal.SIGKILL)
    nodes.add()
    _, told = run.communicate(timeout=150)
    assert run.returncode == 0, told
    assert quiz.answers() == ALL
    calls = quiz.calls()
    assert ROWS <= len(calls) <= ROWS + IN_FLIGHT
    assert {node for _, node in calls} - before, "the node that came was not used"
    # The same answers as without a cluster.
    here = quiz.start("process", answers="here.csv")
    _, told = here.communicate(timeout=120)
    assert (here.returncode, quiz.answers("here.csv")) == (0, ALL), told


@pytest.mark.cluster
def test_a_run_whose_head_is_gone_goes_on_without_the_cluster(quiz: Quiz, nodes: Nodes) -> None:
    nodes.add()
    run = quiz.start("process", "--ray", nodes.cluster.address, "--ray-actors", "2", *KEYS, pause=3)
    quiz.wait_for(lambda calls: len(calls) > 40)
    nodes.cluster.head_node.kill_gcs_server()
    _, told = run.communicate(timeout=120)
    begun = len(quiz.calls())
    assert run.returncode == 5, told
    assert "cluster" in told, told
    recorded = {question for question, answer in quiz.answers() if answer}
    assert 0 < len(recorded) < ROWS
    quiz.forget()
    rest = quiz.start("resume", "a.csv", "--ray", "none")
    _, told = rest.communicate(timeout=120)
    assert rest.returncode == 0, told
    assert quiz.answers() == ALL
    again = {question for question, _ in quiz.calls()}
    assert not again & recorded, "an answered row was asked again"
    assert begun + len(quiz.calls()) <= ROWS + IN_FLIGHT
