"""How a job knows its predictor again that is a Python object: by its name and its source, here and at the shell."""

import asyncio
import linecache
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import dspy
import nbclient
import nbformat
import pytest
import tokio_asyncio_bridge as tab
from asked import answers, warnings
from dspy.utils import DummyLM


async def shout(question: str) -> str:
    await asyncio.sleep(0)
    return question.upper()


def defined(code: str, file: str = "<cell>") -> Any:
    """What `predict` is once the code has run, as IPython runs a cell: in `__main__`, known to `linecache`."""
    code = textwrap.dedent(code)
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    space: dict[str, Any] = {"__name__": "a_notebook"}
    exec(compile(code, file, "exec"), space)
    return space["predict"]


CELL = """
async def predict(question: str) -> str:
    if question == "b" and not allowed():
        raise ValueError("not yet")
    return question + " 1"

def allowed() -> bool:
    import os
    return os.path.exists("allowed")
"""


def test_the_same_source_goes_on_and_another_is_warned_of(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = tab.process("q.csv", predictor=defined(CELL))
    assert (report.rows.failed, report.run.predictor) == (1, "a_notebook:predict")
    report = tab.process("q.csv", predictor=defined(CELL, "<another cell>"))
    assert (report.rows.failed, warnings(caplog)) == (1, [])
    Path("allowed").touch()
    report = tab.process("q.csv", predictor=defined(CELL.replace(" 1", " 2")))
    changed = "the predictor's source has changed since the last session: `a_notebook:predict`"
    assert (answers(), warnings(caplog)) == (["a 1", "b 2"], [changed])
    told = [(version.answered, version.changed) for version in report.predictor_versions if version.answered]
    assert told == [(1, []), (1, ["`a_notebook:predict`"])]


def test_another_name_is_refused(place: Path) -> None:
    tab.process("q.csv", predictor=defined(CELL))
    with pytest.raises(tab.ChangedError) as refused:
        tab.process("q.csv", predictor=shout)
    was = "the predictor was the Python object `a_notebook:predict` in the earlier run"
    assert f"{was} and is the Python object `test_predictor_known:shout` now" in str(refused.value)
    assert str(refused.value.hint).startswith("give the same one, start anew with `force=True`, or go on")
    report = tab.process("q.csv", predictor=shout, allow_changed=True)
    assert (report.rows.ok, answers()) == (2, ["a 1", "B"])


def test_a_partial_of_other_arguments_is_other_source(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = "import functools\nasync def answer(question, end):\n    {}\npredict = functools.partial(answer, end='{}')"
    report = tab.process("q.csv", predictor=defined(code.format("return 1 / (question != 'b')", "?"), "<1>"))
    assert report.rows.failed == 1
    tab.process("q.csv", predictor=defined(code.format("return 1 / (question != 'b')", "?"), "<2>"))
    assert warnings(caplog) == []
    tab.process("q.csv", predictor=defined(code.format("return 1 / (question != 'b')", "!"), "<3>"))
    assert warnings(caplog) == ["the predictor's source has changed since the last session: `a_notebook:answer`"]


def test_a_callable_without_source_is_known_by_its_name(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        space: dict[str, Any] = {"__name__": "somewhere"}
        exec(f"async def predict(question):\n    return {number} / (question != 'b')\n", space)
        report = tab.process("q.csv", predictor=space["predict"])
        assert (report.rows.failed, report.run.predictor) == (1, "somewhere:predict")
    assert warnings(caplog) == []


def shell(*arguments: str) -> tuple[int, str]:
    program = [sys.executable, "-m", "tokio_asyncio_bridge", *arguments]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stderr


def python(code: str, *arguments: str) -> str:
    """Runs a program in a Python of its own, and returns what it printed."""
    program = [sys.executable, *(arguments or ("-c", textwrap.dedent(code)))]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


RUN = "\nimport tokio_asyncio_bridge as tab\nprint(tab.process('q.csv', predictor=predict).run.predictor)\n"


def test_what_a_notebook_began_goes_on_at_the_shell(place: Path) -> None:
    assert python(CELL + RUN) == "__main__:predict\n"
    for arguments in (["resume", "q.answers.csv"], ["process", "q.csv"]):
        code, said = shell(*arguments)
        text = "error: the run was started with the Python object `__main__:predict`, which only its own process has"
        assert (code, text in said) == (2, True), said
    Path("app.py").write_text(CELL)
    Path("allowed").touch()
    code, said = shell("resume", "q.answers.csv", "--predictor", "app.py:predict")
    assert (code, answers(), "source has changed" in said) == (0, ["a 1", "b 1"], False), said


def test_a_function_of_a_file_goes_on_at_the_shell_without_being_named(place: Path) -> None:
    Path("app.py").write_text(CELL)
    run = "from app import predict" + RUN
    assert python(run) == "app:predict\n"
    code, said = shell("resume", "q.answers.csv", "--retries", "0")
    assert (code, "source has changed" in said, "app.py:predict" in said) == (3, False, True), said
    # It is the same job for the object and for the SPEC, also where each follows the other.
    assert python(run) == "app:predict\n"
    assert shell("process", "q.csv", "--predictor", "app.py:predict")[0] == 3
    assert python(run) == "app:predict\n"
    # Of another size: a file of the same size that is written in the same second is to Python the one that it compiled.
    Path("app.py").write_text(CELL.replace(" 1", " two"))
    Path("allowed").touch()
    code, said = shell("resume", "q.answers.csv")
    assert (code, answers()) == (0, ["a 1", "b two"]), said
    assert "source has changed" in said and "`app.py`" in said, said


def test_a_file_elsewhere_and_one_of_a_package_are_found_again(place: Path) -> None:
    for number, (file, module) in enumerate([("lib/far.py", "far"), ("lib/kit/near.py", "kit.near")]):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).with_name("other.py").write_text("")
        Path(file).write_text(("from . import other" if number else "import other") + CELL)
        Path("lib/kit").mkdir(exist_ok=True)
        Path("lib/kit/__init__.py").touch()
        Path("allowed").unlink(missing_ok=True)
        begin = f"import os, sys; sys.path.insert(0, 'lib'); os.mkdir('in{number}'); from {module} import predict\n"
        python(f"{begin}import tokio_asyncio_bridge as tab; tab.process('q.csv', 'out{number}.csv', predictor=predict)")
        Path("allowed").touch()
        code, said = shell("resume", f"out{number}.csv")
        assert code == 0 and "source has changed" not in said, said


def test_a_function_of_another_directory_is_not_looked_for_in_that_of_the_job(place: Path) -> None:
    code = "import os\nasync def predict(question):\n    if question == 'b' and not os.path.exists({!r}):\n"
    code += "        raise ValueError\n    return {!r}\n"
    Path("there").mkdir()
    for file, answer in (("app.py", "here"), ("there/app.py", "there")):
        Path(file).write_text(code.format(str(place / "allowed"), answer))
    assert shell("process", "q.csv", "--predictor", "app.py:predict", "--retries", "0")[0] == 3
    begin = "import os, sys; os.chdir('there'); sys.path.insert(0, os.getcwd()); import app\n"
    python(f"{begin}import tokio_asyncio_bridge as tab; tab.resume('../q.answers.csv', predictor=app.predict)")
    Path("allowed").touch()
    code_of_exit, said = shell("resume", "q.answers.csv")
    assert (code_of_exit, "now `" in said, "is called, without the settings" in said) == (0, True, True), said
    assert Path("q.answers.csv").read_text().splitlines()[2].startswith("b,2,there,ok")


@pytest.mark.parametrize(
    "code",
    [
        "predict = (lambda inner: lambda question: inner(question))(len)",
        "def made():\n    def predict(question): return question\n    return predict\npredict = made()",
        "class Asks:\n    def predict(self, question): return question\npredict = Asks().predict",
        "class Asks:\n    def __call__(self, question): return question\npredict = Asks()",
        "import functools\ndef whole(question, more): return question\npredict = functools.partial(whole, more=1)",
        "exec('def predict(question): return question')",
    ],
)
def test_what_a_file_does_not_have_under_its_own_name_has_to_be_given_again(place: Path, code: str) -> None:
    Path("app.py").write_text(code)
    python("import app, tokio_asyncio_bridge as tab; tab.process('q.csv', predictor=app.predict)")
    code_of_exit, said = shell("resume", "q.answers.csv")
    assert (code_of_exit, "which only its own process has" in said) == (2, True), said


def test_what_the_shell_began_goes_on_with_the_function(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    Path("app.py").write_text(CELL)
    assert shell("process", "q.csv", "--predictor", "app.py:predict")[0] == 3
    Path("allowed").touch()
    report = tab.resume("q.answers.csv", predictor=defined(CELL, "<moved>"))
    assert (report.rows.ok, warnings(caplog)) == (2, [])


def test_a_script_is_named_by_its_file(place: Path) -> None:
    Path("run.py").write_text(CELL + RUN)
    assert python("", "run.py") == "run.py:predict\n"
    # To import it would run it anew.
    assert shell("resume", "q.answers.csv")[0] == 2
    Path("allowed").touch()
    assert python("", "run.py") == "run.py:predict\n"
    assert answers() == ["a 1", "b 1"]


def test_what_a_notebook_defines_is_known_again_by_its_source(place: Path) -> None:

    def executed(*cells: str) -> str:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbclient.NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(place)}}).execute()
        return "".join(output.get("text", "") for cell in notebook.cells for output in cell.outputs)

    run = """
import logging, tokio_asyncio_bridge as tab
logging.basicConfig(format="%(message)s", force=True)
report = tab.process("q.csv", predictor=predict)
print(report.run.predictor, report.rows.ok)
"""
    kind = """
class Predict:
    async def __call__(self, question):
        {}
        return question + " 1"
predict = Predict()
"""
    failing = kind.format("if question == 'b': raise ValueError")
    assert executed(CELL, run) == "<notebook>:predict 1\n"
    assert executed("# Another cell", CELL, run) == "<notebook>:predict 1\n"
    told = executed("print('predicts')", CELL.replace(" 1", " 2"), run)
    assert "the predictor's source has changed since the last session: `<notebook>:predict`" in told
    os.remove("q.answers.csv.journal")
    # A class of a notebook has no source in Python before 3.13, but its methods do.
    assert executed(failing, run) == "<notebook>:Predict 1\n"
    assert executed(failing, run) == "<notebook>:Predict 1\n"
    told = executed(kind.format("print('asked', question)"), run)
    assert "source has changed since the last session: `<notebook>:Predict`" in told and "asked b" in told
    assert answers() == ["a 1", "b 1"]


def test_a_dspy_object_that_changed_is_refused_also_where_every_row_is_answered(place: Path) -> None:
    lm = DummyLM([{"reasoning": "", "answer": "yes", "why": ""}] * 9)
    first = dspy.ChainOfThought("question -> answer")
    told = dspy.ChainOfThought(dspy.Signature("question -> answer", "Answer in one word."))
    shown = dspy.ChainOfThought("question -> answer")
    shown.predict.demos = [dspy.Example(question="c", reasoning="", answer="d").with_inputs("question")]
    others = {"instructions": told, "signature": dspy.ChainOfThought("question -> answer, why"), "demos": shown}
    with dspy.context(lm=lm):
        report = tab.process("q.csv", predictor=first)
        files = sorted(place.glob("q.answers*"))
        written = [file.stat().st_mtime_ns for file in files]
        same = tab.process("q.csv", predictor=dspy.ChainOfThought("question -> answer"))
        assert (same.rows.ok, same.attempts.total, same.tokens) == (2, 2, report.tokens)
        assert [file.stat().st_mtime_ns for file in files] == written
        for part, other in others.items():
            for again in (lambda other: tab.process("q.csv", predictor=other), resumed):
                with pytest.raises(tab.ChangedError, match=f"the {part} of `predict` "):
                    again(other)
        assert tab.process("q.csv", predictor=first).attempts.total == 2


def resumed(predictor: Any) -> None:
    tab.resume("q.answers.csv", predictor=predictor)
