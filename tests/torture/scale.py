"""Measures what rows cost the program itself. `make torture-scale` runs it with a hundred million of them.

    python tests/torture/scale.py PROGRAM                     # 100,000,000 rows
    python tests/torture/scale.py PROGRAM 1000000 10000000    # other numbers of rows
    python tests/torture/scale.py PROGRAM --in /mnt/disk      # files elsewhere than in `target`

PROGRAM is a release build. The scripted bridge answers: it calls no Python and returns each question at once. So what
is measured is reading, handing over, recording and writing. The job is killed with `kill -9` when half of its journal
is written, and resumed. Then it is checked:

- The answers file has every row once, in order, with its own answer.
- The journal has as many outcomes as there are rows: nothing recorded was asked again.
- Peak memory of `process`, `resume` and `report` is at most 16 bytes a row above that of a small job.

The small job comes first. It tells how many bytes a row needs on the disk, and what does not fit is not begun. The
columns of the table:

| column | what |
| --- | --- |
| wall | from the first call to the last record, of both sessions, without what is between them |
| processor | of both sessions as wholes, all threads, user and system |
| recovery | from the start of `resume` until it knows which rows are left: it has read journal and input |
| project | writing the answers file |
| report | the command `report`, which reads the journal again |
| peak MB | the most resident memory of `process`, `resume` and `report` |
| bytes a row | by how much that is above the small job's |
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MANY = 100_000_000
FEW = 100_000
CONCURRENCY = 100
# The guarantee, and how much the memory for calls in flight may differ between runs.
BYTES_A_ROW, NOISE = 16, 4_000_000
# Numbers of rows and times have more digits in a large job than in the small one.
LONGER_NUMBERS, MARGIN = 30, 1.1
CHUNK = 1 << 24

COLUMNS = "rows", "wall s", "rows/s", "processor s", "recovery s", "project s", "report s"
COLUMNS += "input MB", "journal MB", "answers MB", "peak MB", "bytes a row"


@dataclass
class Used:
    """What one run of the program took."""

    exit_code: int
    wall: float
    processor: float
    peak: int
    known_after: float | None


class Job:
    """The files of one job, and the runs of the program on them."""

    def __init__(self, program: Path, directory: Path, rows: int) -> None:
        self.program, self.directory, self.rows = program, directory, rows
        self.input, self.answers = directory / "questions.csv", directory / "answers.csv"
        self.journal = directory / "answers.csv.journal"
        with self.input.open("w") as file:
            file.write("question\n")
            file.writelines(f"Question {row}?\n" for row in range(rows))

    def process(self, kill_at: int | None = None) -> Used:
        """Answers the rows. With `kill_at`, only until the journal has so many bytes, and then with `kill -9`."""
        words = ["process", self.input, "-o", self.answers, "--bridge", "fake", "-c", CONCURRENCY]
        kill = None if kill_at is None else lambda: self.journal.exists() and self.journal.stat().st_size >= kill_at
        return self.run(words, kill)

    def run(self, words: list[object], kill: Callable[[], bool] | None = None) -> Used:
        """Runs the program, which prints its progress as JSON."""
        error = self.directory / "stderr"
        command = [self.program, *words] + (["--progress", "json"] if words[0] in ("process", "resume") else [])
        began, known_after = time.monotonic(), None
        with error.open("w") as stderr, error.open() as told:
            child = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=stderr)
            while True:
                pid, status, used = os.wait4(child.pid, os.WNOHANG)
                if pid:
                    break
                if known_after is None and "rows answered before" in told.read():
                    known_after = time.monotonic() - began
                if kill and kill():
                    os.kill(child.pid, signal.SIGKILL)
                time.sleep(0.01)
        exit_code = child.returncode = os.waitstatus_to_exitcode(status)
        if exit_code not in (0, -signal.SIGKILL):
            sys.exit(f"{' '.join(map(str, command))}: exit code {exit_code}\n{error.read_text()[-2000:]}")
        wall, processor = time.monotonic() - began, used.ru_utime + used.ru_stime
        return Used(exit_code, wall, processor, used.ru_maxrss * 1024, known_after)

    def report(self) -> dict[str, object]:
        """The timing report."""
        return json.loads((self.directory / "answers.csv.report.json").read_text())

    def bytes(self) -> tuple[int, int, int]:
        """The sizes of input, journal and answers."""
        return tuple(path.stat().st_size for path in (self.input, self.journal, self.answers))

    def check(self) -> None:
        """Exits unless each row has its own answer, and one outcome."""
        with self.answers.open() as file:
            assert next(file) == "question,answer,status,error,attempts,latency_ms\n"
            row = -1
            for row, line in enumerate(file):
                if not line.startswith(f"Question {row}?,Question {row}?,ok,,1,"):
                    sys.exit(f"row {row} is not answered: {line}")
        if row + 1 != self.rows:
            sys.exit(f"{row + 1} rows are answered, not {self.rows}")
        outcomes = sum(chunk.count(b' {"outcome":') for chunk in chunks(self.journal, b' {"outcome":'))
        if outcomes != self.rows:
            sys.exit(f"the journal has {outcomes} outcomes of {self.rows} rows: some were asked again")


def chunks(path: Path, word: bytes) -> Iterator[bytes]:
    """The bytes of a file in parts, none of which ends within the word."""
    kept = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            chunk = kept + chunk
            cut = next((n for n in range(len(word) - 1, 0, -1) if chunk.endswith(word[:n])), 0)
            kept = chunk[len(chunk) - cut :]
            yield chunk[: len(chunk) - cut]
    yield kept


def small(program: Path, directory: Path) -> tuple[int, float, float]:
    """Runs the small job: its peak memory, the bytes a row of all its files, and those of its journal."""
    job = Job(program, directory, FEW)
    peak = job.process().peak
    job.check()
    return peak, sum(job.bytes()) / FEW, job.bytes()[1] / FEW


def measured(program: Path, directory: Path, rows: int, few_peak: int, journal_a_row: float) -> list[str]:
    """Runs one job as described above, and returns its line of the table."""
    job = Job(program, directory, rows)
    killed = job.process(kill_at=int(rows * journal_a_row / 2))
    if killed.exit_code != -signal.SIGKILL:
        sys.exit(f"the job ended before it was killed: {rows} rows are too few")
    resumed = job.run(["resume", job.answers])
    figures = job.report()
    report = job.run(["report", job.answers])
    job.check()
    before = figures["rows"]["resumed"]
    if not 0.3 * rows < before < 0.9 * rows:
        sys.exit(f"{before} of {rows} rows were answered before the kill: not about half of them")
    peak = max(used.peak for used in (killed, resumed, report))
    a_row = (peak - few_peak) / (rows - FEW)
    if peak > few_peak + BYTES_A_ROW * (rows - FEW) + NOISE:
        sys.exit(f"peak memory is {peak} bytes, {a_row:.1f} a row above that of {FEW} rows: more than {BYTES_A_ROW}")
    seconds = (resumed.known_after, figures["project_s"], report.wall)
    return [
        f"{rows:,}",
        f"{figures['wall_s']:.1f}",
        f"{figures['rows_per_s']:,.0f}",
        f"{killed.processor + resumed.processor:.1f}",
        *(f"{of:.1f}" for of in seconds),
        *(f"{of / 1e6:,.0f}" for of in (*job.bytes(), peak)),
        f"{a_row:.1f}",
    ]


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("program", type=Path)
    words.add_argument("rows", type=int, nargs="*", default=[MANY])
    words.add_argument("--in", dest="directory", type=Path, default=Path("target"))
    asked = words.parse_args()
    program = asked.program.resolve()
    with tempfile.TemporaryDirectory(dir=asked.directory) as directory:
        peak, bytes_a_row, journal_a_row = small(program, Path(directory))
    needed = max(asked.rows) * (bytes_a_row + LONGER_NUMBERS) * MARGIN
    free = shutil.disk_usage(asked.directory).free
    print(f"{max(asked.rows):,} rows need about {needed / 1e9:.1f} GB of the {free / 1e9:.1f} GB in {asked.directory}")
    if needed > free:
        sys.exit("that is not enough: nothing was begun")
    for number, rows in enumerate(asked.rows):
        with tempfile.TemporaryDirectory(dir=asked.directory) as directory:
            line = measured(program, Path(directory), rows, peak, journal_a_row)
        for cells in [COLUMNS, line] if number == 0 else [line]:
            print("".join(f"{cell:>13}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
