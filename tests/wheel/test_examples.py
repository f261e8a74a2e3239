"""Every example runs, offline and in an empty directory, and there is one for each entry of the package."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tokio_asyncio_bridge as tab

EXAMPLES = Path(__file__).parents[2] / "examples/python"
# A line that each must print.
TOLD = {
    "process": "Answered 24 of 24 rows",
    "resume": "24 rows answered with 27 calls",
    "compare": "times as fast as sequential",
    "verify": "24 records for 24 rows: no fault",
    "export": "stopped: interrupted",
    "estimate": "24 rows, 24 calls",
    "map": "{'width': 2.0, 'height': 3.0} 6.0",
    "merge": "24 of 24 rows",
    "stream": "² = ",
    "evaluate": "66.67 % right",
}


def test_each_entry_has_an_example() -> None:
    functions = {name for name in tab.__all__ if inspect.isfunction(getattr(tab, name))}
    assert {example.stem for example in EXAMPLES.glob("*.py")} == set(TOLD) == functions


@pytest.mark.parametrize("name", TOLD)
def test_the_example_runs(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert TOLD[name] in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = EXAMPLES.parents[1]
    Path("questions.csv").write_text((root / "data/questions.csv").read_text())
    blocks = (root / "README.md").read_text().split("\n```python\n")[1:]
    texts = [block.partition("\n```")[0] for block in blocks]
    names: dict[str, Any] = {}
    for text in [next(text for text in texts if "def predict" in text), *(text for text in texts if "as tab" in text)]:
        exec(text, names)
    assert names["report"].rows.ok == 24
    assert [outcome.answer for outcome in names["answers"]] == ["You asked: Why?", "You asked: How?"]
