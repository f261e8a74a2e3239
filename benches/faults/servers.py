"""The servers that are asked: aimock, which journals every request, and mocklimit, which limits them."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

AIMOCK = Path(__file__).parents[2] / "tests/node_modules/@copilotkit/aimock/dist/cli.js"
LIMITED = "Within the limit."
PATH = "/v1/chat/completions"


def specification(content: str) -> dict[str, Any]:
    """Chat completions that all have this content, as mocklimit derives them from an OpenAPI document."""
    schema: dict[str, Any] = {"enum": [content]}
    for name in ("content", "message"):
        schema = {"type": "object", "properties": {name: schema}}
    schema = {"type": "object", "properties": {"choices": {"type": "array", "items": schema}}}
    answered = {"description": "answered", "content": {"application/json": {"schema": schema}}}
    paths = {PATH: {"post": {"operationId": "complete", "responses": {"200": answered}}}}
    return {"openapi": "3.0.0", "info": {"title": "completions", "version": "1"}, "paths": paths}


def fetched(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response)


def question(row: int) -> str:
    """A row's question; none is contained in another, because aimock looks for a part of the text."""
    return f"Question {row:05}?"


def answer(row: int) -> str:
    return f"Answer {row:05}?"


class Aimock:
    """A server with scripted answers, whose first token comes after `latency_ms`."""

    def __init__(self, url: str, latency_ms: int) -> None:
        self.url = url
        self.latency_ms = latency_ms

    def requests(self) -> list[dict[str, Any]]:
        """All requests so far, as they came; those of clients that died are among them."""
        found: list[dict[str, Any]] = fetched(f"{self.url}/__aimock/journal")
        return found

    def count(self) -> int:
        with urllib.request.urlopen(f"{self.url}/__aimock/journal?limit=1", timeout=60) as response:
            return int(response.headers["X-Total-Count"])

    def calls(self) -> Counter[str]:
        """How often each question was asked."""
        return Counter(request["body"]["messages"][-1]["content"] for request in self.requests())

    def most_at_once(self) -> int:
        """The most requests that were in flight together: those whose beginnings are less than the latency apart."""
        begun = [request["timestamp"] for request in self.requests()]
        most = first = 0
        for last, time_ms in enumerate(begun):
            while begun[first] <= time_ms - self.latency_ms:
                first += 1
            most = max(most, last - first + 1)
        return most


@contextlib.contextmanager
def aimock(directory: Path, rows: int, latency_ms: int, broken: list[int], once: list[int]) -> Iterator[Aimock]:
    """Answers each row's question. Rows in `broken` always get a 500, those in `once` get one at the first time."""

    def fixture(row: int, response: dict[str, Any], **more: int) -> dict[str, Any]:
        return {"match": {"userMessage": question(row), **more}, "response": response}

    error = {"error": {"message": "scripted 500", "type": "server_error"}, "status": 500}
    fixtures = [fixture(row, error) for row in broken] + [fixture(row, error, sequenceIndex=0) for row in once]
    fixtures += [fixture(row, {"content": answer(row)}) for row in range(rows)]
    for scripted in fixtures:
        scripted["streamingProfile"] = {"ttft": latency_ms, "tps": 1000}
    with served(directory, fixtures) as url:
        yield Aimock(url, latency_ms)


@contextlib.contextmanager
def served(directory: Path, fixtures: list[dict[str, Any]]) -> Iterator[str]:
    """The URL of a running aimock with these answers."""
    file = directory / "fixtures.json"
    file.write_text(json.dumps({"fixtures": fixtures}))
    command = ["node", str(AIMOCK), "--port", "0", "--journal-max", "0", "--fixtures", str(file)]
    log = directory / "aimock.log"
    with log.open("w") as lines:
        process = subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT)
    try:
        address = None
        while address is None:
            time.sleep(0.05)
            assert process.poll() is None, f"aimock ended: {log.read_text()}"
            _, found, rest = log.read_text().partition("listening on http://")
            address = rest.split()[0] if found and rest.endswith("\n") else None
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


class Mocklimit:
    """A server that admits so many requests a window, and refuses the others with a Retry-After."""

    def __init__(self, url: str) -> None:
        self.url = url

    def requests(self) -> tuple[int, int]:
        """How many requests came, and how many of them were refused."""
        stats = fetched(f"{self.url}/mocklimit/stats").get(f"POST {PATH}", {}).get("127.0.0.1", {})
        return stats.get("total_requests", 0), stats.get("total_429s", 0)


@contextlib.contextmanager
def mocklimit(directory: Path, limit: int, window_s: int) -> Iterator[Mocklimit]:
    window = {"limit": limit, "window_seconds": window_s}
    policy = {"strategy": "fixed_window", "scope": "ip", "response_latency_ms": [50, 50], "limits": [window]}
    endpoints = {PATH: {"methods": ["POST"], "policy": "window"}}
    spec, rates = directory / "spec.yaml", directory / "rates.yaml"
    spec.write_text(json.dumps(specification(LIMITED)))
    rates.write_text(json.dumps({"policies": {"window": policy}, "endpoints": endpoints}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mocklimit", "serve", "--log-level", "ERROR", "--port", str(port)]
    command += ["--spec", str(spec), "--rate-config", str(rates)]
    with open(os.devnull, "w") as nothing:
        process = subprocess.Popen(command, stdout=nothing, stderr=nothing)
    try:
        while True:
            assert process.poll() is None, "mocklimit ended: is it installed beside this Python?"
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.05)
        yield Mocklimit(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()
