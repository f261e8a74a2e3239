"""The types: the package under mypy --strict, the stub of the extension module, and the published schemas."""

import inspect
import json
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import tokio_asyncio_bridge as tab

PACKAGE = Path(tab.__file__).parent
SCHEMAS = Path(__file__).parents[2] / "schema"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    # Built in place, the package is found beside its sources. Installed, it is found from everywhere, but mypy takes
    # files beside it for the user's own.
    is_installed = PACKAGE.parent.name == "site-packages"
    directory = "/" if is_installed else PACKAGE.parent
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=directory)


def checked(*command: str) -> None:
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.once
def test_the_package_passes_mypy_strict(tmp_path: Path) -> None:
    checked("mypy", "--strict", "--cache-dir", str(tmp_path), "--package", "tokio_asyncio_bridge")


def test_the_stub_is_what_the_extension_module_has(tmp_path: Path) -> None:
    # The list of names, which pyo3 makes, is not worth a copy.
    allowed = tmp_path / "allowed.txt"
    allowed.write_text("tokio_asyncio_bridge._native.__all__\n")
    checked("mypy.stubtest", "--allowlist", str(allowed), "tokio_asyncio_bridge._native")


def test_a_wrong_option_is_seen_by_mypy(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import tokio_asyncio_bridge as tab\n"
        "tab.process('q.csv', predictor='app.py:answer', timeout=30.0, lm={'temperature': 0})\n"
        "tab.process('q.csv', predictor='app.py:answer', timeout=[30.0])\n"
        "tab.process('q.csv', predictor='app.py:answer', timout=30.0)\n"
    )
    told = run("mypy", "--show-absolute-path", "--cache-dir", str(tmp_path), str(script)).stdout
    lines = [int(line.split(":")[1]) for line in told.splitlines() if "error" in line and line.startswith(str(script))]
    assert lines == [3, 4], told


def test_the_kinds_of_rows_pass_mypy_strict(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import tokio_asyncio_bridge as tab\n"
        "async def answer(question: str) -> str:\n"
        "    return question\n"
        "tab.map(['Why?', 'How?'], answer)\n"
        "tab.map([{'question': 'Why?'}], answer)\n"
        "tab.map((question for question in ('Why?',)), answer)\n"
        "async def each() -> None:\n"
        "    async for outcome in tab.stream(['Why?'], answer):\n"
        "        print(outcome.result())\n"
    )
    checked("mypy", "--strict", "--cache-dir", str(tmp_path), str(script))


def properties(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    if "items" in schema:
        return properties(schema["items"], whole)
    found: dict[str, Any] = schema.get("properties", {})
    return found


def compared(kind: type, schema: dict[str, Any], whole: dict[str, Any], own: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Compares the fields of a dataclass, and of those inside, with a schema."""
    described = properties(schema, whole)
    names = {field.name for field in fields(kind) if not field.name.startswith("_")}
    assert names - own == described.keys(), kind
    for name, hint in get_type_hints(kind).items():
        for part in (hint, *get_args(hint)):
            if is_dataclass(part) and name in described:
                compared(part, described[name], whole)  # type: ignore[arg-type]


def test_a_report_has_the_fields_of_the_published_schema() -> None:
    whole = json.loads((SCHEMAS / "report.schema.json").read_text())
    compared(tab.Report, whole, whole, {"answers", "summary"})


def test_a_comparison_has_the_fields_of_the_published_schema() -> None:
    whole = json.loads((SCHEMAS / "compare.schema.json").read_text())
    compared(tab.Comparison, whole, whole, {"summary", "cost_usd"})


def test_every_public_name_has_a_docstring() -> None:
    public = {name: getattr(tab, name) for name in tab.__all__}
    own = {name: one for name, one in public.items() if inspect.isclass(one) or inspect.isroutine(one)}
    lacking = [name for name, one in own.items() if not (one.__doc__ or "").strip()]
    assert not lacking
