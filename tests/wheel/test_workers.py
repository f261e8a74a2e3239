"""Calls in worker processes: objects that are sent there, with what surrounds them here."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import tokio_asyncio_bridge as tab

CALLS = Path("calls.txt")


def note(text: object) -> None:
    with CALLS.open("a") as calls:
        calls.write(f"{text}\n")


def answers() -> list[str]:
    """The answers and the processes of `a.csv`, without its first line."""
    return Path("a.csv").read_text().splitlines()[1:]


class Made:
    """A predictor that is made in the process of its calls."""

    def __init__(self) -> None:
        note(f"made {os.getpid()}")

    async def __call__(self, question: str) -> str:
        return question.upper()


def test_a_function_and_what_it_refers_to_is_sent(place: Path) -> None:
    suffix = "!"

    async def answer(question: str) -> dict[str, Any]:
        note(os.getpid())
        return {"answer": question + suffix, "cwd": os.getcwd()}

    report = tab.process("q.csv", "a.csv", predictor=answer, workers=2)
    assert report.rows.ok == 2
    assert [line.split(",")[2:4] for line in answers()] == [["a!", str(place)], ["b!", str(place)]]
    assert str(os.getpid()) not in CALLS.read_text().split()
    # The job goes on in this process, and then in a worker again.
    Path("q.csv").write_text("question,n\na,1\nb,2\nc,3\n")
    assert tab.process("q.csv", "a.csv", predictor=answer).rows.ok == 3
    Path("q.csv").write_text("question,n\na,1\nb,2\nc,3\nd,4\n")
    assert tab.resume("a.csv", predictor=answer, workers=1).rows.ok == 4
    assert len(CALLS.read_text().split()) == 4


def test_a_job_is_the_same_with_and_without_workers(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert tab.process("q.csv", "a.csv", predictor=Made, workers=2).rows.ok == 2
    made = CALLS.read_text().splitlines()
    assert len(made) == len(set(made)) == 2, "once in each worker"
    Path("q.csv").write_text("question,n\na,1\nb,2\nc,3\n")
    assert tab.process("q.csv", "a.csv", predictor=Made).rows.ok == 3
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == []


def test_ctrl_c_while_workers_load_leaves_none(place: Path) -> None:
    loading = "import os, pathlib, time\npathlib.Path(f'loading-{os.getpid()}').touch()\ntime.sleep(60)\n"
    Path("app.py").write_text(loading + "def answer(question): pass\n")

    def workers() -> list[str]:
        return [file.name.removeprefix("loading-") for file in place.glob("loading-*")]

    def interrupt() -> None:
        while len(workers()) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        tab.process("q.csv", "a.csv", predictor="app.py:answer", workers=2)
    time.sleep(1)
    assert [pid for pid in workers() if Path("/proc", pid).exists()] == []


def test_what_cannot_be_sent_is_refused_with_the_reason(place: Path) -> None:
    lock = threading.Lock()

    async def locked(question: str) -> str:
        with lock:
            return question

    reason = "cannot be sent to a worker process: TypeError: cannot pickle"
    with pytest.raises(tab.PredictorError, match=reason) as raised:
        tab.process("q.csv", predictor=locked, workers=2)
    assert raised.value.hint is not None and "path/to/file.py:name" in raised.value.hint


def test_without_cloudpickle_an_object_is_refused_and_a_spec_is_not(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)

    async def answer(question: str) -> str:
        return question

    with pytest.raises(tab.PredictorError, match="pip install cloudpickle"):
        tab.process("q.csv", predictor=answer, workers=1)
    Path("app.py").write_text("async def answer(question):\n    return question\n")
    assert tab.process("q.csv", predictor="app.py:answer", workers=1).rows.ok == 2


def test_the_search_path_and_the_filters_of_warnings_are_those_of_the_caller(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("beside").mkdir()
    Path("beside/neighbour.py").write_text("NAME = 'neighbour'\n")
    monkeypatch.syspath_prepend(str(place / "beside"))

    async def answer(question: str) -> str:
        import neighbour  # type: ignore[import-not-found]

        warnings.warn("loud", stacklevel=1)
        return str(neighbour.NAME)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert tab.process("q.csv", "a.csv", predictor=answer, workers=1).rows.ok == 2
        warnings.filterwarnings("error", message="loud")
        report = tab.process("q.csv", "b.csv", predictor=answer, workers=1, retries=0, max_failures="100%")
    assert (report.rows.ok, report.rows.failed) == (0, 2)
    assert "UserWarning: loud" in Path("b.csv").read_text()


def test_a_script_and_its_options_are_those_of_the_caller(place: Path) -> None:
    Path("script.py").write_text(
        textwrap.dedent(
            """
            import sys
            import tokio_asyncio_bridge as tab

            KEPT = "kept"

            async def answer(question):
                import __main__
                return {"kept": KEPT, "dev": sys.flags.dev_mode, "argv": sys.argv[1:], "main": __main__.__file__}

            if __name__ == "__main__":
                tab.process("q.csv", "a.csv", predictor=answer, workers=2, progress=False)
                tab.process("q.csv", "here.csv", predictor=answer, progress=False)
            """
        )
    )
    subprocess.run([sys.executable, "-X", "dev", "script.py", "word"], check=True)
    records = [Path(file).read_text().splitlines()[1:] for file in ("a.csv", "here.csv")]
    sent, here = ([line.rpartition(",")[0] for line in lines] for lines in records)
    assert sent == here
    assert 'kept,true,"[""word""]"' in sent[0]


def test_what_is_printed_reaches_standard_error(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def answer(question: str) -> str:
        print(f"answering {question}")
        return question

    tab.process("q.csv", predictor=answer, workers=2, progress=False)
    assert sorted(capfd.readouterr().err.splitlines()) == ["answering a", "answering b"]


def test_what_a_module_prints_at_its_import_in_a_worker_is_masked(place: Path) -> None:
    Path("helper.py").write_text(
        textwrap.dedent(
            """
            import os

            if os.environ["CALLER"] != str(os.getpid()):
                print("helper has", os.environ["HELPER_TOKEN"])

            def loud(text):
                return text.upper()
            """
        )
    )
    Path("script.py").write_text(
        textwrap.dedent(
            """
            import os

            os.environ["CALLER"] = str(os.getpid())
            import helper
            import tokio_asyncio_bridge as tab

            async def answer(question):
                return helper.loud(question)

            if __name__ == "__main__":
                assert [outcome.answer for outcome in tab.map([{"question": "x"}], answer, workers=1)] == ["X"]
            """
        )
    )
    variables = {**os.environ, "HELPER_TOKEN": "correct-horse-battery"}
    run = subprocess.run([sys.executable, "script.py"], env=variables, capture_output=True, text=True, timeout=60)
    shown = run.stdout + run.stderr
    assert run.returncode == 0, shown
    assert "helper has ***" in shown and "correct-horse-battery" not in shown, shown


def test_map_with_a_journal_takes_workers(place: Path) -> None:
    async def answer(question: str, n: int) -> dict[str, Any]:
        return {"n": n + 1, "question": question, "pid": os.getpid()}

    rows = [{"question": "é", "n": 1}, {"question": "b", "n": 2}]
    outcomes = tab.map(rows, answer, journal="run.journal", workers=2)
    assert [outcome.answer["n"] for outcome in outcomes] == [2, 3]
    assert os.getpid() not in {outcome.answer["pid"] for outcome in outcomes}


def test_compare_and_estimate_take_workers(place: Path) -> None:
    async def answer(question: str) -> str:
        note(os.getpid())
        return question

    assert tab.estimate("q.csv", predictor=answer, workers=2).rows == 2
    assert not CALLS.exists()
    comparison = tab.compare("q.csv", predictor=answer, workers=2, runs=1, concurrency=2)
    assert len(comparison.modes) == 2
    assert str(os.getpid()) not in CALLS.read_text().split()


def test_a_dspy_module_is_sent_with_the_settings_of_its_caller(place: Path) -> None:
    dspy = pytest.importorskip("dspy")
    from dspy.utils import DummyLM

    class Program(dspy.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.step = dspy.Predict("question -> answer")

        async def aforward(self, question: str) -> Any:
            return await self.step.acall(question=question)

    program = Program()
    with dspy.context(lm=DummyLM([{"answer": "by heart"}] * 10), provide_traceback=True):
        report = tab.process("q.csv", "a.csv", predictor=program, workers=2)
    assert report.rows.ok == 2
    assert [line.split(",")[2] for line in answers()] == ["by heart", "by heart"]


@pytest.mark.parametrize(("workers", "told"), [(-1, "expected `auto` or a whole number"), ("many", "expected `auto`")])
def test_a_number_that_does_not_fit_is_told(place: Path, workers: Any, told: str) -> None:
    with pytest.raises(tab.UsageError, match=told):
        tab.process("q.csv", predictor="app.py:answer", workers=workers)


@pytest.mark.notebook
def test_what_a_notebooks_cell_defines_is_sent_and_what_it_prints_is_shown(place: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    cells = (
        "import os\nimport tokio_asyncio_bridge as tab\nSUFFIX = '!'",
        "def marked(text):\n    return text + SUFFIX",
        "async def answer(question: str):\n    print('answering', question)\n"
        "    if question == 'b':\n        raise ValueError('no b')\n    return [marked(question), os.getpid()]",
        "tab.process('q.csv', 'a.csv', predictor=answer, workers=2, progress=False, retries=0); print(os.getpid())",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": "."}}).execute()
    text = "".join(output.get("text", "") for output in notebook.cells[3].outputs)
    assert "answering a" in text and "answering b" in text
    [first, second] = answers()
    assert "a!" in first and text.split()[-1] not in first
    assert "ValueError: no b" in second
    journal = Path("a.csv.journal").read_text()
    assert "raise ValueError('no b')" in journal, "the lines of a cell are in the traceback"
