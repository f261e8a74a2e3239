"""In a notebook: one bar that is drawn in place, results that are shown, and a stop button that works."""

import asyncio
import json
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

pytestmark = pytest.mark.notebook

EXAMPLE = Path(__file__).parents[2] / "examples/notebook.ipynb"

BEGIN = """
import asyncio
import tokio_asyncio_bridge as tab

async def answer(question: str) -> str:
    with open("calls.txt", "a") as calls:
        calls.write(question + "\\n")
    await asyncio.sleep(0.1)
    return question.upper()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def questions(number: int) -> None:
    Path("q.csv").write_text("question\n" + "".join(f"q{row}\n" for row in range(number)))


def executed(*cells: str, **options: Any) -> Any:
    """A notebook of these cells with their outputs."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": "."}}, **options).execute()
    return notebook


def saved(notebook: Any) -> int:
    """The bytes that the outputs take in the saved notebook, with the state of its widgets."""
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return len(json.dumps([outputs, notebook.metadata.get("widgets", {})]))


def shown(outputs: list[Any], kind: str) -> list[str]:
    """The outputs of a cell that have this MIME type, as text."""
    return [str(output["data"][kind]) for output in outputs if kind in output.get("data", {})]


def test_the_example_runs_and_its_output_is_small() -> None:
    notebook = nbformat.read(EXAMPLE, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": "."}}).execute()
    assert saved(notebook) < 20_000
    texts = [cell.source for cell in notebook.cells]
    for entry in ("tab.process(", "tab.map(", "tab.stream(", "tab.evaluate("):
        assert any(entry in text for text in texts), entry


def test_a_long_run_has_one_bar_and_its_report() -> None:
    questions(60)
    notebook = executed(BEGIN, "tab.process('q.csv', predictor=answer, concurrency=3)")
    outputs = notebook.cells[1].outputs
    [bar] = shown(outputs, "application/vnd.jupyter.widget-view+json")
    assert bar
    [state] = [
        model["state"]["value"]
        for model in notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
        if model["model_name"] == "HTMLModel"
    ]
    assert "60/60 rows, 100 %" in state
    [report] = shown(outputs, "text/html")
    assert "Answered 60 of 60 rows" in report
    assert saved(notebook) < 20_000


def test_without_widgets_the_bar_is_one_output_that_is_replaced() -> None:
    questions(60)
    block = "import sys; sys.modules['ipywidgets'] = None"
    notebook = executed(block, BEGIN, "report = tab.process('q.csv', predictor=answer, concurrency=3)")
    [bar] = notebook.cells[2].outputs
    assert "60/60 rows, 100 %" in bar["data"]["text/html"] and "<progress" in bar["data"]["text/html"]
    assert bar["data"]["text/plain"].startswith("60/60 rows, 100 %")


def test_a_loop_that_runs_in_the_notebook_is_no_obstacle() -> None:
    questions(3)
    notebook = executed(
        BEGIN,
        "import asyncio; asyncio.get_running_loop()",
        "print(tab.process('q.csv', predictor=answer).rows.ok)",
        "await asyncio.sleep(0); print(tab.process('q.csv', 'other.csv', predictor=answer).rows.ok)",
        "print([outcome.answer async for outcome in tab.stream([{'question': 'a'}], answer)])",
    )
    printed = [output["text"] for cell in notebook.cells for output in cell.outputs if output.output_type == "stream"]
    assert printed == ["3\n", "3\n", "['A']\n"]


def test_the_stop_button_ends_a_run_that_can_be_resumed() -> None:
    questions(400)
    cells = [
        BEGIN,
        "tab.process('q.csv', 'answers.csv', predictor=answer, concurrency=4, progress=False)",
        "report = tab.resume('answers.csv', predictor=answer, concurrency=100, progress=False); print(report.rows.ok)",
    ]
    notebook = interrupted(*cells)
    [error] = [output for output in notebook.cells[1].outputs if output.output_type == "error"]
    assert error.ename == "KeyboardInterrupt"
    [told] = notebook.cells[2].outputs
    assert told.text == "400\n"
    calls = Path("calls.txt").read_text().split()
    assert len(calls) == len(set(calls)) == 400


def test_the_stop_button_cancels_a_stream_and_leaves_nothing_of_it() -> None:
    cells = [
        BEGIN,
        """
        rows = ({"question": f"q{row}"} for row in range(10_000))
        try:
            async for outcome in tab.stream(rows, answer, concurrency=4):
                pass
        except BaseException as error:
            raised = type(error).__name__
            raise
        """,
        """
        import threading
        before = len(open("calls.txt").readlines())
        await asyncio.sleep(0.5)
        print(raised, len(open("calls.txt").readlines()) - before)
        print([thread.name for thread in threading.enumerate() if "tab" in thread.name])
        """,
    ]
    notebook = interrupted(*map(textwrap.dedent, cells))
    assert not [output.text for output in notebook.cells[1].outputs if output.output_type == "stream"]
    [told] = notebook.cells[2].outputs
    assert told.text == "CancelledError 0\n[]\n"


def interrupted(*cells: str) -> Any:
    """A notebook whose stop button was pressed once some rows were answered."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=120, allow_errors=True, interrupt_on_timeout=False, resources={"metadata": {"path": "."}}
    )
    presses = threading.Thread(target=stopped_in_time, args=(client,))
    presses.start()
    client.execute()
    presses.join()
    return notebook


def stopped_in_time(client: Any) -> None:
    """Presses the stop button once some rows are answered."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        calls = Path("calls.txt")
        if calls.exists() and len(calls.read_text().split()) >= 12:
            asyncio.run(client.km.interrupt_kernel())
            return
        time.sleep(0.02)
    raise AssertionError("the run has not begun")
