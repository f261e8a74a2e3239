"""Measures what the walk for hidden clients is worth: a run as its predictor was written, and as the warning says.

    python benches/hidden.py PROGRAM

PROGRAM is a build of the stand-alone program. Run it with the Python of `.venv`. The predictor keeps an httpx client of
10 connections in an attribute of an object, as people write it, and `-c` is 40. The server is aimock, whose answers
take 300 ms. `src/bridge/python/reachable.py` finds the client, and the program says before the first call what to do
about it. The second contender does that. The wall time is that of the report. What the walk takes is measured beside.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

sys.path.append(str(Path(__file__).parent / "faults"))
import servers

ROWS, CALLS, LATENCY_MS, ROUNDS = 400, 40, 300, 3
CONNECTIONS = {"as written": 10, "as the warning says": CALLS}

PREDICTOR = """
import json
import httpx

class Asks:
    def __init__(self):
        self.client = httpx.AsyncClient(base_url={url!r}, limits=httpx.Limits(max_connections={connections}))

    async def answer(self, question):
        body = {{"model": "m", "stream": True, "messages": [{{"role": "user", "content": question}}]}}
        reply = await self.client.post("/v1/chat/completions", json=body)
        lines = reply.raise_for_status().text.splitlines()
        parts = [json.loads(line[6:])["choices"][0]["delta"] for line in lines if line.startswith("data: {{")]
        return "".join(part.get("content") or "" for part in parts)

asks = Asks()

async def answer(question):
    return await asks.answer(question)
"""


def loaded(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def walk_s(predictor: Path) -> float:
    """How long the walk takes from the predictor's function, in seconds."""
    reachable = loaded("reachable", Path(__file__).parents[1] / "src/bridge/python/reachable.py")
    target = loaded("predictor", predictor).answer
    began = time.perf_counter()
    found = [name for name, _ in reachable.objects(target, str(predictor))]
    took = time.perf_counter() - began
    assert any("client" in name for name in found), found
    return took


def run(program: str, directory: Path, predictor: Path, warned: bool) -> float:
    """The wall time of a run, in seconds."""
    command = [program, "process", "questions.csv", "-o", "answers.csv", "--force", "-c", str(CALLS)]
    done = subprocess.run(
        [*command, "--predictor", f"{predictor}:answer"], cwd=directory, capture_output=True, text=True, check=True
    )
    assert ("takes only 10 calls at once" in done.stderr) == warned, done.stderr
    report = json.loads((directory / "answers.csv.report.json").read_text())
    assert report["rows"]["ok"] == ROWS
    return float(report["wall_s"])


def main() -> None:
    (program,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        rows = "".join(f"{servers.question(row)}\n" for row in range(ROWS))
        (directory / "questions.csv").write_text("question\n" + rows)
        with servers.aimock(directory, ROWS, LATENCY_MS, [], []) as server:
            predictors = {}
            for name, connections in CONNECTIONS.items():
                predictors[name] = directory / f"with_{connections}.py"
                predictors[name].write_text(PREDICTOR.format(url=server.url, connections=connections))
            walks = [walk_s(predictors["as written"]) for _ in range(ROUNDS)]
            walls: dict[str, list[float]] = {name: [] for name in predictors}
            for _ in range(ROUNDS):
                for name, predictor in predictors.items():
                    walls[name].append(run(os.path.abspath(program), directory, predictor, name == "as written"))
    medians = {name: statistics.median(times) for name, times in walls.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.2f} s ({medians['as written'] / median:.1f} times as fast)")
    print(f"the walk: {statistics.median(walks) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
