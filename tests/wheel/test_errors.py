"""Errors are classes under one base, and name options as keywords."""

import pickle
from pathlib import Path
from typing import get_type_hints

import pytest
import tokio_asyncio_bridge as tab
from tokio_asyncio_bridge import _options
from tokio_asyncio_bridge._errors import in_python
from tokio_asyncio_bridge._report import report_of


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("q.csv").write_text("question\na\nb\n")
    Path("app.py").write_text("async def answer(question):\n    return question\n")


def test_all_errors_have_one_base() -> None:
    errors = [getattr(tab, name) for name in tab.__all__ if name.endswith("Error")]
    assert len(errors) > 8 and all(issubclass(error, tab.BridgeError) for error in errors)


def test_an_input_that_is_not_there_or_has_a_fault_is_an_input_error() -> None:
    with pytest.raises(tab.InputError, match=r"none\.csv") as raised:
        tab.process("none.csv", predictor="app.py:answer")
    assert (raised.value.file, raised.value.line, raised.value.called) == ("none.csv", None, False)
    Path("bad.csv").write_text("question,n\na,1\nb\n")
    with pytest.raises(tab.InputError) as raised:
        tab.process("bad.csv", predictor="app.py:answer")
    assert (raised.value.file, raised.value.line) == ("bad.csv", 3)


def test_a_predictor_that_does_not_load_is_a_predictor_error() -> None:
    with pytest.raises(tab.PredictorError, match="oracle"):
        tab.process("q.csv", predictor="app.py:oracle")
    Path("app.py").write_text("raise LookupError('no app today')\n")
    with pytest.raises(tab.PredictorError, match="no app today"):
        tab.process("q.csv", predictor="app.py:answer")


def test_answers_that_another_wrote_are_not_replaced() -> None:
    Path("out.csv").write_text("mine\n")
    with pytest.raises(tab.OutputError) as raised:
        tab.process("q.csv", "out.csv", predictor="app.py:answer")
    assert raised.value.hint is not None and "`force=True`" in raised.value.hint
    assert Path("out.csv").read_text() == "mine\n"


def test_another_job_in_the_journal_is_a_changed_error() -> None:
    tab.process("q.csv", "out.csv", predictor="app.py:answer")
    with pytest.raises(tab.ChangedError, match="model"):
        tab.process(
            "q.csv", "out.csv", predictor="app.py:answer", model="openai/gpt-4o-mini", api_base="http://127.0.0.1:9/v1"
        )


def test_answers_without_a_journal_are_a_journal_error() -> None:
    with pytest.raises(tab.JournalError, match="has no journal"):
        tab.resume("out.csv")


def test_options_that_do_not_fit_the_predictor_are_a_usage_error() -> None:
    with pytest.raises(tab.UsageError, match="`max_cost=` cannot bound this predictor"):
        tab.process("q.csv", predictor="app.py:answer", max_cost=1.0)


def test_options_in_messages_are_keywords() -> None:
    assert in_python("`--row-timeout` is too short") == "`row_timeout=` is too short"
    assert in_python("give `--format csv`") == "give `format=csv`"
    assert in_python("hint: `resume --only failed` calls them") == "hint: `resume(…, only=failed)` calls them"
    assert in_python("`--lm api_key=…` is never written down") == '`lm={"api_key": …}` is never written down'
    assert in_python("write `--map PARAMETER=COLUMN`") == 'write `map={"PARAMETER": "COLUMN"}`'
    assert in_python("`--map 'key=my id'` takes it") == '`map={"key": "my id"}` takes it'
    assert in_python("`--force` starts anew") == "`force=True` starts anew"
    assert in_python("a map is given by `--map`") == "a map is given by `map=`"


def test_each_switch_of_a_message_is_turned_on() -> None:
    kinds = (_options.ProcessOptions, _options.ResumeOptions, _options.CompareOptions, _options.ExportOptions)
    switches = {name for kind in kinds for name, hint in get_type_hints(kind).items() if hint is bool}
    assert {name for name in switches if in_python(f"`--{name.replace('_', '-')}`") == f"`{name}=True`"} == switches


def test_a_report_names_keywords_where_it_tells_why_the_run_stopped() -> None:
    known = tab.process("q.csv", "out.csv", predictor="app.py:answer").to_dict()
    known["stopped"] = "$5.00 of `--max-cost 5` spent"
    report = report_of({"report": known, "answers": "out.csv", "summary": "", "broken": None})
    assert report.stopped == "$5.00 of `max_cost=5` spent"
    assert report.to_dict()["stopped"] == known["stopped"], "the file keeps its words"


def test_errors_are_pickled() -> None:
    error = tab.InputError("failed to read `q.csv`\nhint: look", file="q.csv", line=3)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.file, again.line, again.hint) == (
        tab.InputError,
        str(error),
        "q.csv",
        3,
        "look",
    )
    row = tab.RowError("no", kind="predictor", type="ValueError", status=500)
    again = pickle.loads(pickle.dumps(row))
    assert (str(again), again.kind, again.type, again.status) == ("no", "predictor", "ValueError", 500)
