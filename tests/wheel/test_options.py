"""Options as keywords: all of the command line's, with Python values, and errors that name them."""

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import get_type_hints

import pytest
import tokio_asyncio_bridge as tab
from tokio_asyncio_bridge import _options
from tokio_asyncio_bridge._options import checked, words

OF_A_TERMINAL = "is about what a terminal shows: `progress=`, `logging` and the report take its place"
# Options of the command line that are no keywords, each with the reason.
LEFT_OUT = {
    "help": "`help()` shows the docstring",
    "color": OF_A_TERMINAL,
    "progress": OF_A_TERMINAL,
    "quiet": OF_A_TERMINAL,
    "verbose": OF_A_TERMINAL,
    "json": "`Audit.to_dict()` is this JSON",
    "dry_run": "`estimate` is the dry run",
    "python": "the interpreter is the one that calls",
}
# Keywords that are parameters of their own.
PARAMETERS = {"predictor", "output"}


@pytest.mark.parametrize(
    ("command", "known"),
    [
        ("process", _options.ProcessOptions),
        ("resume", _options.ResumeOptions),
        ("compare", _options.CompareOptions),
        ("verify", _options.VerifyOptions),
        ("export", _options.ExportOptions),
    ],
)
def test_every_option_of_a_command_is_a_keyword_under_its_name(command: str, known: type) -> None:
    program = [sys.executable, "-m", "tokio_asyncio_bridge", command, "--help"]
    told = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    options = {name.replace("-", "_") for name in re.findall(r"^ +(?:-\w, )?--([a-z-]+)", told, re.MULTILINE)}
    assert "format" in options or command in ("export", "resume")
    assert set(get_type_hints(known)) == options - LEFT_OUT.keys() - PARAMETERS


def test_values_become_words() -> None:
    given = {
        "timeout": 30.0,
        "row_timeout": timedelta(milliseconds=1500),
        "deadline": "5m",
        "grace": 0,
        "program": Path("a.json"),
        "html": False,
        "private": True,
        "lm": {"temperature": 0.5, "stop": ["\n"], "user": "0.5", "api_key": "sk-1"},
        "map": {"context": "text", "number": "0", "sure": "true"},
        "range": range(2, 5),
        "shard": (0, 4),
        "fields": ["answer", "reasoning"],
        "concurrency": [1, 2],
        "price_in": 0.15,
        "model": None,
        "ray": True,
        "ray_cpus": 0.5,
        "ray_resources": {"disk": 1},
        "ray_env": ["A_KEY", "B"],
    }
    hints = {
        **get_type_hints(_options.ProcessOptions),
        "concurrency": get_type_hints(_options.CompareOptions)["concurrency"],
    }
    known = type("Known", (), {"__annotations__": hints})
    assert words(checked("process", given, known)) == [
        ("timeout", "30s"),
        ("row_timeout", "1500ms"),
        ("deadline", "5m"),
        ("grace", "0s"),
        ("program", "a.json"),
        ("no_html", "true"),
        ("private", "true"),
        ("lm", "temperature=0.5"),
        ("lm", 'stop=["\\n"]'),
        ("lm", 'user="0.5"'),
        ("lm", "api_key=sk-1"),
        ("map", "context=text"),
        ("map", "number=0"),
        ("map", "sure=true"),
        ("range", "2:5"),
        ("shard", "0/4"),
        ("fields", "answer,reasoning"),
        ("concurrency", "1"),
        ("concurrency", "2"),
        ("price_in", "0.15"),
        ("ray", "true"),
        ("ray_cpus", "0.5"),
        ("ray_resources", "disk=1"),
        ("ray_env", "A_KEY"),
        ("ray_env", "B"),
    ]


def process(**options: object) -> None:
    tab.process("q.csv", predictor="app.py:answer", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"timout": 1.0}, r"process\(\) got an unexpected keyword argument `timout`; did you mean `timeout`\?"),
        ({"bananas": 1.0}, r"process\(\) got an unexpected keyword argument `bananas`$"),
        ({"timeout": [1]}, "`timeout=` takes seconds, a timedelta or a text such as `30s`, not list"),
        ({"retries": 1.5}, "`retries=` takes a whole number, not float"),
        ({"retries": True}, "`retries=` takes a whole number, not bool"),
        ({"html": 1}, "`html=` takes True or False, not int"),
        ({"lm": "temperature=1"}, "`lm=` takes a mapping, not str"),
        ({"program": 1}, "`program=` takes a text or a path, not int"),
        ({"shard": 1}, "`shard=` takes a text or a tuple of two numbers, not int"),
        ({"format": 1}, "`format=` takes 'csv' or 'jsonl', not int"),
        ({"ray": 1}, "`ray=` takes True or False or a text, not int"),
    ],
)
def test_an_unknown_option_or_a_wrong_type_is_a_type_error(options: dict[str, object], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        process(**options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"timeout": 0.0}, "`timeout=` cannot be `0s`: a duration of zero leaves no time for anything"),
        ({"timeout": "30"}, "`timeout=` cannot be `30`: expected a duration such as `500ms`, `30s` or `5m`"),
        ({"timeout": -1.0}, "`timeout=` cannot be `-1.0`: expected a duration"),
        ({"timeout": float("nan")}, "`timeout=` cannot be `nan`: expected a duration"),
        ({"event_loop": "trio"}, "`event_loop=` cannot be `trio`: expected `auto` or `asyncio` or `uvloop`"),
        ({"range": "5:2"}, "`range=` cannot be `5:2`: the range is empty"),
        ({"fields": ["a, b"]}, "`fields=` takes names without a comma, not `a, b`"),
        ({"range": range(0, 9, 2)}, r"`range=` takes a range without gaps, not range\(0, 9, 2\)"),
        ({"limit": 1, "range": range(5)}, "`limit=` cannot be given with `range=`"),
        ({"price_in": 1.0}, "`price_in=` also needs `price_out=`"),
        ({"ray": "head"}, "`ray=` cannot be `head`: expected `auto`, `local`, `none` or the `HOST:PORT`"),
        ({"ray": "ray://head:10001"}, "`ray=` cannot be `ray://head:10001`: .*\n.*`ray job submit"),
        ({"ray": True, "workers": 2}, "`ray=` cannot be given with `workers=`"),
        ({"ray_env": ["KEY=sk-1"]}, "`ray_env=` cannot be taken: expected the name of a variable"),
        ({"concurrency": 0}, "`concurrency=` cannot be `0`: at least one call must be allowed"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_option(options: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        process(**options)


def test_a_column_whose_name_is_like_json_is_found() -> None:
    answers = tab.map([{"0": "a", "null": "b"}], lambda x, y: x + y, map={"x": "0", "y": "null"})
    assert [outcome.answer for outcome in answers] == ["ab"]


def test_a_secret_is_not_told() -> None:
    with pytest.raises(tab.UsageError) as raised:
        process(lm={" ": "sk-secret"})
    assert "sk-secret" not in str(raised.value)


def test_variables_of_the_command_line_have_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAB_LIMIT", "1")
    monkeypatch.setenv("TAB_TIMEOUT", "nonsense")
    Path("q.csv").write_text("question\na\nb\n")
    Path("app.py").write_text("async def answer(question):\n    return question\n")
    assert tab.process("q.csv", predictor="app.py:answer").rows.ok == 2
