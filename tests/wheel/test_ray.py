"""Calls on a Ray cluster: what is sent there, and what is kept from it."""

import hashlib
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokio_asyncio_bridge as tab

pytest.importorskip("ray")

SECRET = "correct-horse-battery"
PREDICTOR = """
import os
from helper import loud

print("loaded", os.environ.get("GREETING"))

async def answer(question):
    return {"answer": loud(question), "cwd": os.getcwd(), "greeting": os.environ.get("GREETING", "")}
"""


class Cluster:
    """A cluster of one node on this machine, which is no child of ours in Ray's eyes."""

    def __init__(self) -> None:
        # The paths of sockets must be short.
        self.directory = Path(tempfile.mkdtemp(prefix="tab-", dir="/tmp"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        options = ["--head", "--block", f"--port={self.address.rpartition(':')[2]}", "--num-cpus=2", "--num-gpus=0"]
        options += ["--include-dashboard=false", "--node-ip-address=127.0.0.1", f"--temp-dir={self.directory}"]
        self._log = (self.directory / "started").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *options],
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        until = time.monotonic() + 90
        while "--block" not in (self.directory / "started").read_text():
            assert self._process.poll() is None and time.monotonic() < until, (self.directory / "started").read_text()
            time.sleep(0.1)

    def has(self, text: str) -> list[str]:
        """The files of the cluster that hold a text."""
        files = [file for file in self.directory.rglob("*") if file.is_file() and not file.is_symlink()]
        return [str(file) for file in files if text.encode() in file.read_bytes()]

    def end(self) -> None:
        # Asked to end, it would take its time.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # The key that the tests send is not known there.
    assert "GREETING" not in os.environ
    with pytest.MonkeyPatch.context() as patch:
        # Whatever other clusters of this machine ask for, this one asks for a token of its own.
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        cluster = Cluster()
        yield cluster
        cluster.end()


@pytest.fixture
def rows(place: Path) -> Path:
    Path("q.csv").write_text("question\n" + "".join(f"row {number}\n" for number in range(200)))
    Path("helper.py").write_text("def loud(text):\n    return text.upper()\n")
    Path("app.py").write_text(PREDICTOR)
    return place


def answers(file: str = "a.csv") -> list[list[str]]:
    return [line.split(",") for line in Path(file).read_text().splitlines()[1:]]


def test_rows_are_answered_on_a_cluster_and_the_job_goes_on_here(
    cluster: Cluster, rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = tab.process("q.csv", "a.csv", predictor="app.py:answer", ray=cluster.address, ray_actors=2, limit=150)
    assert (report.rows.ok, report.rows.total) == (150, 150)
    assert [row[1] for row in answers()] == [f"ROW {number}" for number in range(150)]
    assert all(row[2] != str(rows) for row in answers())
    told = [record.message for record in caplog.records]
    assert any("2 files (" in text and "sent to the cluster" in text for text in told), told
    caplog.clear()
    assert tab.resume("a.csv", range="0:200", ray=False).rows.ok == 200
    assert [row[2] for row in answers()[150:]] == [str(rows)] * 50
    # The predictor is known again by its files, wherever it was loaded.
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_cluster_is_started_here_where_none_is_named(rows: Path) -> None:
    report = tab.process("q.csv", "a.csv", predictor="app.py:answer", ray="local", ray_actors=1, ray_cpus=0.5)
    assert report.rows.ok == 200


def test_the_value_of_a_variable_is_kept_from_ray_and_masked_in_all_that_is_shown(cluster: Cluster, rows: Path) -> None:
    Path("app.py").write_text(
        textwrap.dedent(
            """
            import hashlib, logging, os

            GREETING = os.environ["GREETING"]
            print("loaded with", GREETING)

            async def answer(question):
                print("called with", GREETING, flush=True)
                logging.warning("logged %s", GREETING)
                if question == "row 1":
                    raise ValueError(f"failed with {GREETING}")
                return hashlib.sha256(GREETING.encode()).hexdigest()
            """
        )
    )
    program = [sys.executable, "-m", "tokio_asyncio_bridge", "process", "q.csv", "-o", "a.csv", "-n", "4", "-v"]
    program += ["--predictor", "app.py:answer", "--retries", "0"]
    program += ["--ray", cluster.address, "--ray-actors", "1", "--ray-env", "GREETING"]
    variables = {**os.environ, "GREETING": SECRET}
    run = subprocess.run(program, env=variables, capture_output=True, text=True, timeout=180)
    shown = run.stdout + run.stderr
    assert run.returncode == 3, shown
    assert SECRET not in shown, shown
    for text in ("loaded with ***", "called with ***", "logged ***", "failed with ***"):
        assert text in shown, shown
    assert answers()[0][1] == hashlib.sha256(SECRET.encode()).hexdigest()
    assert [file.name for file in rows.iterdir() if file.is_file() and SECRET.encode() in file.read_bytes()] == []
    assert cluster.has(SECRET) == []


def test_what_a_main_module_defines_is_sent_with_what_it_imports(cluster: Cluster, rows: Path) -> None:
    with Path("helper.py").open("a") as helper:
        helper.write("import os, ray\nif ray.is_initialized():\n    print('helper has', os.environ['GREETING'])\n")
    Path("script.py").write_text(
        textwrap.dedent(
            """
            import asyncio, os, sys
            import helper
            import tokio_asyncio_bridge as tab

            SUFFIX = "!"

            async def answer(question):
                return helper.loud(question) + SUFFIX

            if __name__ == "__main__":
                asked = dict(ray=sys.argv[1], ray_actors=1, ray_env=["GREETING"])
                assert tab.process("q.csv", "a.csv", predictor=answer, limit=3, **asked).rows.ok == 3
                texts = [{"question": "x"}, {"question": "y"}]
                assert [outcome.answer for outcome in tab.map(texts, answer, **asked)] == ["X!", "Y!"]

                async def streamed():
                    return [outcome.answer async for outcome in tab.stream(texts, answer, ordered=True, **asked)]

                assert asyncio.run(streamed()) == ["X!", "Y!"]
            """
        )
    )
    program = [sys.executable, "script.py", cluster.address]
    variables = {**os.environ, "GREETING": SECRET}
    run = subprocess.run(program, env=variables, capture_output=True, text=True, timeout=180)
    shown = run.stdout + run.stderr
    assert run.returncode == 0, shown
    assert "helper has ***" in shown and SECRET not in shown, shown
    assert [row[1] for row in answers()] == ["ROW 0!", "ROW 1!", "ROW 2!"]


def test_what_cannot_be_sent_is_refused_before_the_cluster_is_reached(rows: Path) -> None:
    lock = threading.Lock()

    async def locked(question: str) -> str:
        with lock:
            return question

    with pytest.raises(tab.PredictorError, match="cannot be sent to the Ray cluster: TypeError: cannot pickle"):
        tab.process("q.csv", predictor=locked, ray="127.0.0.1:9")
    with pytest.raises(tab.UsageError, match="`ray_env=NOT_SET`: the variable is not set here"):
        tab.process("q.csv", predictor="app.py:answer", ray="127.0.0.1:9", ray_env=["NOT_SET"])
    with pytest.raises(tab.ClusterError, match=r"the Ray cluster .127\.0\.0\.1:9. cannot be reached"):
        tab.process("q.csv", predictor="app.py:answer", ray="127.0.0.1:9")
