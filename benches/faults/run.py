"""Makes the faults of `docs/compared.md` happen to us, Ray Data and Daft, and prints what was seen.

    python benches/faults/run.py PROGRAM                                  # everything: 15 minutes or more
    python benches/faults/run.py PROGRAM --systems ours,ray --faults 500  # some of it
    python benches/faults/run.py PROGRAM --markdown --json seen.jsonl     # the page's tables, and the figures

PROGRAM is a release build of the stand-alone program. Run it with a Python that has

    pip install 'ray[data]==2.60.0' daft==0.7.26 aiohttp pandas pyarrow mocklimit==0.6.0 tokio_asyncio_bridge-….whl

and after `make tests/node_modules/.installed`, which brings aimock. The systems are `ours` (`--workers 2`), `ours-ray`
(`--ray local`), `ray` (Ray Data), `ray-http` (its processor for HTTP), `daft` and `daft-ray` (Daft on either runner);
the faults are `storm`, `poison`, `worker`, `driver`, `500` and `bound`. `cells.py` has the settings of each cell.

All call the same predictor, 16 in flight, on 200 rows: one CSV file for us, and twenty of ten rows for the others,
whose unit of work is a file. Every figure is taken outside the system: the requests are those that the server counted,
and the rows are those of the answers that were written.

- `once`: rows with their own answer, once; `failed`: rows that are there without one; `lost`: rows that are not there;
  `doubled` and `wrong` are what they say.
- `calls`: requests at the server; `again`: those that are more than one a row; `at once`: the most in flight together.
- `by orphans`: requests after the driver was killed, by what it left behind.
"""

import argparse
import contextlib
import csv
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import servers
from cells import FAULTS, SYSTEMS, Cell, Fault

HERE = Path(__file__).parent
IN_FLIGHT = 16
WINDOW_S = 2
ROWS_A_FILE = 10
KILLED_AT = 0.4
"""The share of the rows that have been asked when a process is killed."""


class Run:
    """One cell: a directory with the input, the answers and what the processes say."""

    def __init__(self, program: str, cell: Cell, fault: Fault, directory: Path, url: str) -> None:
        self.program = program
        self.cell = cell
        self.directory = directory
        self.log = directory / "log"
        self.output = directory / ("answers.csv" if self.ours else "answers")
        self.rows = fault.rows
        self.environment = {
            **os.environ,
            "FAULTS_URL": url,
            "FAULTS_DIRECTORY": str(directory),
            "FAULTS_RAY": str(directory / "ray"),
            "PYTHONPATH": str(HERE),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "120",
            "DAFT_ANALYTICS_ENABLED": "0",
            "DO_NOT_TRACK": "true",
        }
        if fault.poison is not None:
            self.environment["FAULTS_POISON"] = servers.question(fault.poison)
        self.write_input()

    @property
    def ours(self) -> bool:
        return "words" in self.cell.settings

    def write_input(self) -> None:
        files = self.directory / "questions"
        files.mkdir()
        lines = [f"{row},{servers.question(row)}\n" for row in range(self.rows)]
        for start in range(0, self.rows, ROWS_A_FILE):
            (files / f"{start:05}.csv").write_text("id,question\n" + "".join(lines[start : start + ROWS_A_FILE]))
        (self.directory / "questions.csv").write_text("id,question\n" + "".join(lines))

    def command(self, again: bool) -> list[str]:
        if not self.ours:
            settings = dict(self.cell.settings)
            if "checkpoint" in settings:
                settings["checkpoint"] = str(self.directory / "checkpoint")
            script = "daft_frame.py" if self.cell.system.startswith("daft") else "ray_data.py"
            command = [sys.executable, str(HERE / script), str(self.directory / "questions"), str(self.output)]
            return [*command, str(IN_FLIGHT), json.dumps(settings)]
        if again:
            return [self.program, "resume", str(self.output), *self.cell.settings["words"]]
        command = [self.program, "process", str(self.directory / "questions.csv"), "-o", str(self.output), "--quiet"]
        command += ["--predictor", f"{HERE / 'predictor.py'}:ask", "-c", str(IN_FLIGHT), "--python", sys.executable]
        return [*command, "--no-html", *self.cell.settings["words"]]

    def start(self, again: bool = False) -> subprocess.Popen[bytes]:
        with self.log.open("a") as log:
            return subprocess.Popen(
                self.command(again), cwd=self.directory, env=self.environment, stdout=log, stderr=log
            )

    def processes(self) -> list[int]:
        """All processes of the run, found by the directory in their environment."""
        found = []
        mark = f"FAULTS_DIRECTORY={self.directory}\0".encode()
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdigit() and mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found

    def worker(self, driver: int) -> int | None:
        """A process that makes calls and is not the one that was started."""
        alive = set(self.processes()) - {driver}
        called = {int(path.name.removeprefix("process-")) for path in self.directory.glob("process-*")}
        return min(called & alive, default=None)

    def end(self) -> None:
        while processes := self.processes():
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.1)

    def poisoned(self) -> int:
        noted = self.directory / "poisoned"
        return noted.stat().st_size if noted.exists() else 0

    def records(self) -> list[tuple[int, str | None]]:
        """What was written: the row's id, and its answer if it has one."""
        if not self.output.exists():
            return []
        if self.ours:
            with self.output.open(newline="") as answers:
                return [
                    (int(record["id"]), record["answer"] if record["status"] == "ok" else None)
                    for record in csv.DictReader(answers)
                ]
        from pyarrow import ArrowInvalid, parquet

        found = []
        for path in self.output.rglob("*.parquet"):
            # A file that was begun and not finished cannot be read.
            with contextlib.suppress(ArrowInvalid):
                found += [(record["id"], record["answer"]) for record in parquet.read_table(path).to_pylist()]
        return found


def wait(process: subprocess.Popen[bytes], until: float) -> str:
    """The exit code, or that there was none in time."""
    try:
        return f"exit {process.wait(max(until - time.monotonic(), 0.1))}"
    except subprocess.TimeoutExpired:
        return "does not end"


def killed(run: Run, fault: Fault, server: servers.Aimock, until: float) -> tuple[str, dict[str, Any]]:
    """Kills a worker or the driver once some rows have been asked; starts again where the driver was killed."""
    process = run.start()
    while server.count() < KILLED_AT * fault.rows and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    victim = process.pid if fault.kill == "driver" else run.worker(process.pid)
    if victim is None or process.poll() is not None:
        return wait(process, until), {"note": "there was no worker to kill"}
    asked = server.count()
    os.kill(victim, signal.SIGKILL)
    if fault.kill == "worker":
        return wait(process, until), {"asked_at_kill": asked}
    process.wait()
    since = time.monotonic()
    # Calls that orphans make before they end, and those in flight, are counted with the first run.
    while run.processes() and time.monotonic() < min(since + 60, until):
        time.sleep(0.1)
    orphans_s = time.monotonic() - since
    run.end()
    time.sleep(server.latency_ms / 1000 + 0.2)
    before = server.count()
    ended = wait(run.start(again=True), until)
    return ended, {
        "asked_at_kill": asked,
        "asked_by_orphans": before - asked,
        "orphans_s": round(orphans_s, 1),
        "asked_after": server.count() - before,
    }


def rows_of(records: list[tuple[int, str | None]], rows: int, expected: str | None) -> dict[str, int]:
    """How the rows fared, where each should have this answer, or its own."""
    times = Counter(row for row, _ in records)
    right = {row for row, answer in records if answer == (expected or servers.answer(row))}
    wrong = sum(1 for row, answer in records if answer is not None and answer != (expected or servers.answer(row)))
    return {
        "once": sum(1 for row in right if times[row] == 1),
        "failed": sum(1 for _, answer in records if answer is None),
        "lost": rows - len(times),
        "doubled": sum(1 for count in times.values() if count > 1),
        "wrong": wrong,
    }


def measured(program: str, cell: Cell, fault: Fault, directory: Path, timeout: float) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        server: servers.Aimock | servers.Mocklimit
        if fault.limit is None:
            made = servers.aimock(directory, fault.rows, fault.latency_ms, list(fault.broken), list(fault.once))
            server = stack.enter_context(made)
        else:
            server = stack.enter_context(servers.mocklimit(directory, fault.limit, WINDOW_S))
        run = Run(program, cell, fault, directory, server.url)
        stack.callback(run.end)
        started = time.monotonic()
        until = started + timeout
        if fault.kill is not None and isinstance(server, servers.Aimock):
            ended, seen = killed(run, fault, server, until)
        else:
            ended, seen = wait(run.start(), until), {}
        wall = time.monotonic() - started
        # A system that did not end is judged by what it had written so far.
        run.end()
        seen = {"end": ended, "wall_s": round(wall, 1), **seen}
        expected = None if fault.limit is None else servers.LIMITED
        seen |= rows_of(run.records(), fault.rows, expected)
        if isinstance(server, servers.Mocklimit):
            calls, refused = server.requests()
            return seen | {"calls": calls, "refused": refused}
        calls_of = server.calls()
        seen |= {"calls": calls_of.total(), "again": calls_of.total() - len(calls_of)}
        if fault.poison is not None:
            seen["killed"] = run.poisoned()
        if fault.all_answered:
            # A call that fails ends before the latency is over, so that two in turn would count as two together.
            seen["most"] = server.most_at_once()
        return seen


def told(seen: dict[str, Any]) -> str:
    """The figures in one line; what is zero is left out."""
    rows = ", ".join(f"{seen[name]} {name}" for name in ("once", "failed", "lost", "doubled", "wrong") if seen[name])
    named = {
        "calls": "{} calls",
        "again": "{} again",
        "refused": "{} refused",
        "most": "{} at once",
        "killed": "processes killed: {}",
        "asked_at_kill": "calls before the kill: {}",
        "asked_by_orphans": "by orphans: {}",
        "asked_after": "after the new start: {}",
        "note": "{}",
    }
    more = ", ".join(text.format(seen[name]) for name, text in named.items() if seen.get(name))
    return f"{seen['end']}, {seen['wall_s']} s: {rows or 'nothing written'}; {more}"


def versions() -> str:
    found = []
    for name in ("ray", "daft"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="some of the systems, with commas between them")
    parser.add_argument("--faults", default=",".join(FAULTS), help="some of the faults, with commas between them")
    parser.add_argument("--timeout", type=float, default=180, help="seconds after which a system is ended")
    parser.add_argument("--json", type=Path, help="a file that the figures are appended to")
    parser.add_argument("--markdown", action="store_true", help="print the tables of `docs/compared.md`")
    options = parser.parse_args()
    # Either signal ends the run's processes too, also in the background of a script.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    program = str(Path(options.program).resolve())
    systems = options.systems.split(",")
    print(f"{versions()}; {IN_FLIGHT} in flight")
    for name in options.faults.split(","):
        fault = FAULTS[name]
        print(f"\n{name}: {fault.about} ({fault.rows} rows)")
        if options.markdown:
            print("\n| system | settings | seen |\n| --- | --- | --- |")
        for cell in fault.cells:
            if cell.system not in systems:
                continue
            # Ray puts sockets below it, whose names must be short.
            with tempfile.TemporaryDirectory(prefix="f", dir="/tmp", ignore_cleanup_errors=True) as directory:
                seen = measured(program, cell, fault, Path(directory), options.timeout)
            if options.markdown:
                print(f"| {cell.system} | {cell.name} | {told(seen)} |", flush=True)
            else:
                print(f"  {cell.system:9} {cell.name:42} {told(seen)}", flush=True)
            if options.json is not None:
                with options.json.open("a") as out:
                    out.write(json.dumps({"fault": name, "system": cell.system, "settings": cell.name, **seen}) + "\n")


if __name__ == "__main__":
    main()
