"""The package as it was installed: what it brings, and what it needs."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tokio_asyncio_bridge as tab

SCRIPTS = Path(sys.executable).parent
DISTRIBUTION = "tokio-asyncio-bridge"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", [["tab"], ["tokio-asyncio-bridge"], ["python", "-m", "tokio_asyncio_bridge"]])
def test_each_way_to_call_the_program_gives_the_same_version(program: list[str]) -> None:
    name, *arguments = program
    version = importlib.metadata.version(DISTRIBUTION)
    assert run(SCRIPTS / name, *arguments, "--version") == f"tokio-asyncio-bridge {version}\n"


def test_python_m_names_the_console_script_in_the_commands_that_it_shows() -> None:
    code = "import sys; sys.argv[0] = '/x/__main__.py'; from tokio_asyncio_bridge import _cli; print(_cli._name())"
    script = SCRIPTS / "tokio-asyncio-bridge"
    for path, name in ((f"{SCRIPTS}:{os.environ['PATH']}", "tokio-asyncio-bridge"), ("/usr/bin", script)):
        command, variables = [sys.executable, "-c", code], os.environ | {"PATH": path}
        assert subprocess.run(command, env=variables, capture_output=True, text=True).stdout == f"{name}\n"


def test_the_import_brings_no_package_that_an_extra_stands_for() -> None:
    code = "import sys, tokio_asyncio_bridge; print(*{name.partition('.')[0] for name in sys.modules})"
    imported = set(run(sys.executable, "-c", code).split())
    assert not imported & {"dspy", "litellm", "uvloop", "pandas", "polars", "pyarrow", "tqdm", "ipywidgets"}


def test_the_console_scripts_load_nothing_of_the_api() -> None:
    # It takes longer than all else until Ctrl-C ends the program without a traceback.
    code = "import sys; before = {*sys.modules}; import tokio_asyncio_bridge._cli; print(*{*sys.modules} - before)"
    imported = set(run(sys.executable, "-c", code).split())
    own = {name for name in imported if name.startswith("tokio_asyncio_bridge")}
    assert own == {"tokio_asyncio_bridge", "tokio_asyncio_bridge._cli", "tokio_asyncio_bridge._native"}
    assert not imported & {"asyncio", "dataclasses", "logging", "typing"}


def test_the_package_shows_its_public_names_and_no_other() -> None:
    assert dir(tab) == sorted(tab.__all__)
    assert all(getattr(tab, name) is not None for name in tab.__all__)
    with pytest.raises(AttributeError, match="'tokio_asyncio_bridge' has no attribute 'answer'"):
        tab.answer  # type: ignore[attr-defined]  # noqa: B018


def test_the_wheel_needs_no_package_but_those_of_its_extras() -> None:
    needed = importlib.metadata.requires(DISTRIBUTION) or []
    assert [one for one in needed if "extra ==" not in one] == []
    assert set(importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []) == {"dspy", "notebook", "ray"}


def test_without_dspy_the_default_predictor_names_the_extra_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "questions.csv").write_text("question\nWhy?\n")
    without = "import sys; sys.modules['dspy'] = None; from tokio_asyncio_bridge._cli import main; main()"
    command = [sys.executable, "-c", without, "process", "questions.csv", "--model", "openai/gpt-4o-mini"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"hint: run `{sys.executable} -m pip install 'tokio-asyncio-bridge[dspy]'`" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["questions.csv"]
