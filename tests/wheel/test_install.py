"""The installation as the README has it, by somebody who has nothing yet: no settings, no cache, no environment.

The checkout is the source distribution, which is made of it: nothing that it lacks can be needed.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
# How this machine reaches the package index, if it needs to be told.
NETWORK = re.compile(r"PIP_|SSL_|REQUESTS_CA|CURL_CA|(HTTPS?|NO)_PROXY", re.IGNORECASE)
QUESTIONS = "question\nWhat is the capital of France?\nWhat is the largest planet?\nWho painted the Mona Lisa?\n"


def instructions(source: Path) -> str:
    """The commands of the README that install the package from a checkout, with the path of its source."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (PROJECT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if "pip install '/path/to/checkout" in block]
    lines = [line for line in block.splitlines() if not line.endswith("# or this")]
    assert len(lines) == 3, block
    return "\n".join(lines).replace("/path/to/checkout", str(source))


@pytest.mark.once
def test_what_the_readme_says_installs_a_program_that_answers_a_file(tmp_path: Path) -> None:
    found = shutil.which("cargo")
    assert found, "installing from a checkout needs Rust: https://rustup.rs"
    cargo = Path(found).parent
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if NETWORK.match(name)} | {
        "HOME": str(home),
        "PATH": f"{cargo}:/usr/local/bin:/usr/bin:/bin",
        "CARGO_HOME": os.environ.get("CARGO_HOME", f"{Path.home()}/.cargo"),
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", f"{Path.home()}/.rustup"),
        # Kept between runs, and built fast.
        "CARGO_TARGET_DIR": os.environ["SOURCE_TARGET"],
        "MATURIN_PEP517_ARGS": f"--config {PROJECT}/tests/profile.toml",
    }

    def run(script: str) -> str:
        script = f'set -e\npython3() {{ "{sys._base_executable}" "$@"; }}\n{script}'
        done = subprocess.run(["nice", "bash", "-c", script], cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    (work / "questions.csv").write_text(QUESTIONS)
    (source,) = Path(os.environ["SOURCE"]).glob("*.tar.gz")
    run(f"{instructions(source)}\ndeactivate\nmkdir empty")
    (packages,) = work.glob(".venv/lib/python3.*/site-packages")
    with zipfile.ZipFile(os.environ["WHEEL"]) as wheel:
        missing = [name for name in wheel.namelist() if not (packages / name).exists()]
    assert missing == []
    said = run(f"cd empty && {work}/.venv/bin/tab process ../questions.csv")
    assert "Answered 3 of 3 rows" in said
    with (work / "empty/questions.answers.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    assert [answer["status"] for answer in answers] == ["ok"] * 3
    assert "Paris" in answers[0]["answer"]
    # Nothing was left behind in the home directory but caches.
    assert {path.name for path in home.iterdir()} <= {".cache", ".dspy_cache", ".config", ".local"}
