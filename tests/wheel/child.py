"""Programs of Python that tests run in processes of their own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).parent
# Every wait for a child ends: one that hangs is a failure.
LONGEST = 240


def start(place: Path, code: str, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    """Starts a program in a directory, where it finds the modules of this folder."""
    program = place / "program.py"
    program.write_text(textwrap.dedent(code))
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(program), *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": path, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(child: "subprocess.Popen[str]", code: int = 0, within: float = LONGEST) -> str:
    """Waits for a program, and returns what it printed on standard output."""
    try:
        stdout, stderr = child.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        child.kill()
        stdout, stderr = child.communicate()
        raise AssertionError(f"it hangs\n{stdout}\n{stderr}") from None
    assert child.returncode == code, f"code {child.returncode}\n{stdout}\n{stderr}"
    return stdout


def run(place: Path, code: str, *arguments: str, **variables: str) -> str:
    """Runs a program to its end, and returns what it printed on standard output."""
    return end(start(place, code, *arguments, **variables))
