"""Measures the coordinator over Ray actors: the program with `--ray local`, beside Ray Data and Daft on the same file.

    python benches/cluster.py PROGRAM                # all contenders, 3 rounds
    python benches/cluster.py PROGRAM ours-1 ray-1   # some of them
    python benches/cluster.py PROGRAM --rounds 5 --scale 0.1

PROGRAM is a release build of the stand-alone program. Run it with a Python that has

    pip install 'ray[data]==2.60.0' daft==0.7.26 pandas pyarrow tokio_asyncio_bridge-….whl

on a quiet machine with two cores, which the actors share with the coordinator. The predictor is an `async def` that
returns its question at once. There are 1,000,000 rows in one CSV file, and each contender writes a CSV of its answers.
All have their turn in each round, and the medians are compared.

`rows/s` leaves out the start of Ray and of its actors: it counts from the first call to the last record, which is
`wall_s` of our report, and for the others from the first call to the end of `write_csv`. The rest is what the whole
process took beyond that. For us, writing the answers from the journal belongs to the rest.

- `in-process`: one process; `workers`: `--workers 2`; `ours-1`, `ours-2`: `--ray local` with one and two actors, and
  1,000 calls in flight.
- `ray-1`, `ray-2`: Ray Data's `map_batches` with an async actor class, one and two actors, batches of 1,000 rows that
  are gathered.
- `daft`, `daft-ray`: Daft's async row-wise UDF on its native runner and on Ray, `max_concurrency` 1,000.
"""

import argparse
import asyncio
import contextlib
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROWS = 1_000_000
IN_FLIGHT = 1_000

OURS = {
    "in-process": [],
    "workers": ["--workers", "2"],
    "ours-1": ["--ray", "local", "--ray-actors", "1"],
    "ours-2": ["--ray", "local", "--ray-actors", "2"],
}
PEERS = ["ray-1", "ray-2", "daft", "daft-ray"]


class Time(NamedTuple):
    """Seconds of the work, and of the whole process."""

    wall_s: float
    whole_s: float


called = False


async def at_once(question: str) -> str:
    """The predictor, which notes when the first call of its process began."""
    global called
    if not called:
        called = True
        Path(os.environ["CLUSTER_CALLS"], str(os.getpid())).touch()
    return question


class AtOnce:
    """Ray Data's actor."""

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        answers = await asyncio.gather(*(at_once(question) for question in batch["question"]))
        yield {"question": batch["question"], "answer": answers}


def start_ray(directory: Path) -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(directory / "ray"),
    )


def by_ray(source: Path, target: Path, actors: int) -> None:
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    pool = ray.data.ActorPoolStrategy(size=actors)
    rows = ray.data.read_csv(str(source))
    rows.map_batches(AtOnce, batch_size=IN_FLIGHT, compute=pool).write_csv(str(target))


def by_daft(source: Path, target: Path) -> None:
    import daft

    answer = daft.func(max_concurrency=IN_FLIGHT)(at_once)
    rows = daft.read_csv(str(source))
    rows.with_column("answer", answer(rows["question"])).write_csv(str(target))


def peer(name: str, source: Path, target: Path) -> None:
    """Runs a peer in this process, and prints when it ended."""
    if name != "daft":
        start_ray(source.parent)
    if name.startswith("daft"):
        import daft

        if name == "daft":
            daft.set_runner_native()
        else:
            daft.set_runner_ray()
    if name.startswith("ray"):
        by_ray(source, target, int(name.removeprefix("ray-")))
    else:
        by_daft(source, target)
    print(time.time())


def answered(target: Path) -> int:
    """Counts the rows of a peer's answers, each of which must have its own."""
    rows = 0
    for file in target.glob("*.csv"):
        with file.open(newline="") as lines:
            for record in csv.DictReader(lines):
                assert record["answer"] == record["question"], record
                rows += 1
    return rows


class Bench:
    """The program, and a directory with the predictor and the input."""

    def __init__(self, program: str, directory: Path, rows: int) -> None:
        self.program = program
        self.directory = directory
        self.rows = rows
        self.source = directory / "questions.csv"
        self.source.write_text("question\n" + "".join(f"q{row}\n" for row in range(rows)))
        (directory / "app.py").write_text("async def at_once(question):\n    return question\n")

    @contextlib.contextmanager
    def logged(self, name: str) -> Iterator[Any]:
        """A file for what a contender says, which is shown if it fails."""
        log = self.directory / f"{name}.log"
        try:
            with log.open("w") as lines:
                yield lines
        except Exception:
            print(log.read_text()[-2_000:], file=sys.stderr)
            raise

    def by_ours(self, name: str) -> Time:
        command = [self.program, "process", str(self.source), "-o", "answers.csv", "--force", "--quiet", "--no-html"]
        command += ["--predictor", "app.py:at_once", "-c", str(IN_FLIGHT), "--python", sys.executable, *OURS[name]]
        started = time.perf_counter()
        with self.logged(name) as log:
            subprocess.run(command, cwd=self.directory, stdout=log, stderr=log, check=True)
        whole = time.perf_counter() - started
        report = json.loads((self.directory / "answers.csv.report.json").read_text())
        assert report["rows"]["ok"] == self.rows, report["rows"]
        return Time(report["wall_s"], whole)

    def by_peer(self, name: str) -> Time:
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            target = Path(directory) / "answers"
            command = [sys.executable, __file__, "--peer", name, str(self.source), str(target)]
            calls = Path(directory) / "calls"
            calls.mkdir()
            environment = {**os.environ, "CLUSTER_CALLS": str(calls)}
            started = time.perf_counter()
            with self.logged(name) as log:
                run = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, env=environment, check=True)
            whole = time.perf_counter() - started
            rows = answered(target)
            assert rows == self.rows, f"{name} wrote {rows} of {self.rows} rows"
            first = min(noted.stat().st_mtime for noted in calls.iterdir())
            return Time(float(run.stdout.split()[-1]) - first, whole)


def main() -> None:
    if sys.argv[1:2] == ["--peer"]:
        name, source, target = sys.argv[2:]
        peer(name, Path(source), Path(target))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the rows, for a quick look")
    options = parser.parse_args()
    rows = int(ROWS * options.scale)
    names = options.contenders or [*OURS, *PEERS]
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120"}
    # Ray puts sockets below it, whose names must be short.
    with tempfile.TemporaryDirectory(prefix="c", dir="/tmp", ignore_cleanup_errors=True) as directory:
        bench = Bench(str(Path(options.program).resolve()), Path(directory), rows)
        times: dict[str, list[Time]] = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                # A contender that fails has said why, and leaves the others their figures.
                with contextlib.suppress(subprocess.CalledProcessError):
                    times[name].append(bench.by_ours(name) if name in OURS else bench.by_peer(name))
    print(f"{rows} rows of a predictor that returns at once (median of {options.rounds}, in turn)")
    for name, found in times.items():
        if not found:
            print(f"  {name:10} failed")
            continue
        wall = statistics.median(one.wall_s for one in found)
        rest = statistics.median(one.whole_s - one.wall_s for one in found)
        least, most = min(one.wall_s for one in found), max(one.wall_s for one in found)
        print(
            f"  {name:10} {rows / wall:9.0f} rows/s, {wall:7.2f} s ({least:.2f} to {most:.2f}); the rest {rest:.2f} s"
        )


if __name__ == "__main__":
    main()
