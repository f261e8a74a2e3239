"""Rows from tables, and tables with the answers' columns appended."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas
import polars
import pyarrow
import pytest
from tokio_asyncio_bridge import Answers, MissingPackageError, UsageError, map

OURS = ["status", "error", "attempts", "latency_ms"]


async def shout(question: str | None) -> Any:
    """Answers with two fields, and fails on what cannot be shouted."""
    if not question:
        raise ValueError("nothing to shout")
    return {"loud": question.upper(), "length": len(question)}


def shouted(rows: Any, **options: Any) -> Answers:
    return map(rows, shout, retries=0, **options)


QUESTIONS = ["what", "", "how"]
LOUD = ["WHAT", None, "HOW"]
LENGTHS = [4, None, 3]


def test_a_pandas_frame_comes_back_with_its_index_and_its_types() -> None:
    frame = pandas.DataFrame({"question": QUESTIONS, "n": [1, 2, 3]}, index=["x", "y", "x"])
    answered = shouted(frame).table()
    assert list(frame.columns) == ["question", "n"], "the user's own frame stays as it is"
    assert list(answered.columns) == ["question", "n", "loud", "length", *OURS]
    assert list(answered.index) == ["x", "y", "x"]
    assert answered["length"].dtype == "Int64"
    assert answered["loud"].isna().tolist() == [False, True, False]
    assert answered["status"].tolist() == ["ok", "failed", "ok"]
    assert answered["error"].tolist()[1] == "ValueError: nothing to shout"
    assert answered["error"].isna().tolist() == [True, False, True]


def test_a_polars_frame_comes_back_as_one() -> None:
    frame = polars.DataFrame({"question": QUESTIONS, "n": [1, 2, 3]}, schema_overrides={"n": polars.Int8})
    answered = shouted(frame).table()
    assert answered.columns == ["question", "n", "loud", "length", *OURS]
    assert answered["n"].dtype == polars.Int8
    assert answered["loud"].to_list() == LOUD
    assert answered["length"].to_list() == LENGTHS


def test_an_arrow_table_comes_back_as_one() -> None:
    answered = shouted(pyarrow.table({"question": QUESTIONS, "n": [1, 2, 3]})).table()
    assert answered.column_names == ["question", "n", "loud", "length", *OURS]
    assert answered["loud"].to_pylist() == LOUD
    assert answered["length"].type == pyarrow.int64()


def test_a_dataset_comes_back_as_one_in_the_order_of_its_rows() -> None:
    dataset = datasets.Dataset.from_dict({"question": ["how", "", "what"]}).select([2, 1, 0])
    answered = shouted(dataset).table()
    assert isinstance(answered, datasets.Dataset)
    assert answered["question"] == QUESTIONS
    assert answered["loud"] == LOUD


def test_any_table_with_an_arrow_stream_is_read() -> None:
    class Foreign:
        def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
            return pyarrow.table({"question": QUESTIONS}).__arrow_c_stream__(requested_schema)

    answers = shouted(Foreign())
    assert [outcome.row["question"] for outcome in answers] == QUESTIONS
    assert type(answers.table()).__name__ in ("DataFrame", "Table")
    assert answers.to_arrow()["loud"].to_pylist() == LOUD


@pytest.mark.parametrize("column", [pandas.Series(["a", "b"]), polars.Series(["a", "b"])], ids=["pandas", "polars"])
def test_the_values_of_a_column_are_the_one_argument(column: Any) -> None:
    answers = shouted(column)
    assert [outcome.answer["loud"] for outcome in answers] == ["A", "B"]
    assert answers.to_polars()["row"].to_list() == ["a", "b"]


def test_mappings_come_back_as_a_list_of_them() -> None:
    answered = shouted(iter([{"question": "what"}, {"question": "", "id": 2}])).table()
    added = ["loud", "length", *OURS]
    assert [list(row) for row in answered] == [["question", *added], ["question", "id", *added]]
    assert [row["loud"] for row in answered] == ["WHAT", None]


@pytest.mark.parametrize(
    "rows",
    [
        [{"question": "what", "n": 1}, {"question": ""}, {"question": "how", "n": 3}],
        pandas.DataFrame({"question": QUESTIONS, "n": [1, None, 3]}),
        polars.DataFrame({"question": QUESTIONS, "n": [1, None, 3]}),
        pyarrow.table({"question": QUESTIONS, "n": [1, None, 3]}),
        datasets.Dataset.from_dict({"question": QUESTIONS, "n": [1, None, 3]}),
    ],
    ids=["mappings", "pandas", "polars", "pyarrow", "datasets"],
)
def test_any_rows_can_be_had_as_any_table(rows: Any) -> None:
    answers = shouted(rows)
    names = ["question", "n", "loud", "length", *OURS]
    frame = answers.to_pandas()
    assert list(frame.columns) == names
    assert frame["n"].isna().tolist() == [False, True, False]
    assert answers.to_polars().columns == names
    assert answers.to_polars()["n"].to_list() == [1, None, 3]
    table = answers.to_arrow()
    assert table.column_names == names
    assert table["length"].to_pylist() == LENGTHS


def test_a_name_that_is_taken_gets_the_prefix_that_an_answers_file_gives_it(caplog: pytest.LogCaptureFixture) -> None:
    frame = pandas.DataFrame({"question": QUESTIONS, "loud": 0, "error": 1, "run_error": 2})
    answered = shouted(frame).table()
    assert list(answered.columns)[4:] == ["predicted_loud", "length", "status", "run_run_error", *OURS[2:]]
    assert "the name `loud` is taken: that column is written as `predicted_loud`" in caplog.text


def test_what_a_frame_leaves_out_reaches_the_predictor_as_none() -> None:
    seen: list[Any] = []

    async def look(**row: Any) -> str:
        seen.append(row)
        return "seen"

    frame = pandas.DataFrame(
        {
            "text": ["a", None],
            "number": [1.5, None],
            "whole": pandas.array([1, None], dtype="Int64"),
            "time": [pandas.Timestamp(2020, 1, 1), pandas.NaT],
            "category": pandas.Categorical(["c", None]),
        }
    )
    map(frame, look, concurrency=1)
    assert seen[1] == dict.fromkeys(frame.columns)
    assert type(seen[0]["whole"]) is int
    assert seen[0]["category"] == "c"


def test_columns_that_no_type_holds_are_written_as_json_and_no_value_is_altered() -> None:
    replies: list[Any] = [[1], [2.5], {"a": 1}, {"b": "x"}, "text", 2**70, 1, 0.5, True, None]

    async def reply(n: int) -> Any:
        return {"mixed": replies[n], "number": [1, 0.5][n % 2], "record": [{"a": 1}, {"b": 2}][n % 2]}

    answers = map(({"n": n} for n in range(len(replies))), reply)
    texts = ["[1]", "[2.5]", '{"a": 1}', '{"b": "x"}', "text", str(2**70), "1", "0.5", "true", None]
    assert answers.to_polars()["mixed"].to_list() == texts
    assert answers.to_arrow()["mixed"].to_pylist() == texts
    assert answers.to_pandas()["mixed"].tolist() == replies
    assert answers.to_polars()["number"].to_list()[:2] == [1.0, 0.5]
    assert answers.to_polars()["record"].to_list()[:2] == [{"a": 1, "b": None}, {"a": None, "b": 2}]


def test_the_columns_of_every_run_have_the_same_types_also_without_values() -> None:
    for rows in ([], [{"question": "what"}], [{"question": ""}]):
        answers = shouted(rows)
        types = [polars.String, polars.String, polars.Int64, polars.Float64]
        assert answers.to_polars().dtypes[-4:] == types
        types = [pyarrow.string(), pyarrow.string(), pyarrow.int64(), pyarrow.float64()]
        assert answers.to_arrow().schema.types[-4:] == types


def test_two_columns_of_one_name_are_refused() -> None:
    frame = pandas.DataFrame([["a", "b"]], columns=["question", "question"])
    with pytest.raises(UsageError, match="two columns `question`"):
        shouted(frame)


@pytest.mark.parametrize("rows", ["what", {"question": "what"}, 7])
def test_what_is_no_rows_is_refused(rows: Any) -> None:
    with pytest.raises(UsageError, match="`rows` is a value of type"):
        shouted(rows)


def test_no_library_of_tables_is_imported_unless_it_is_asked_for() -> None:
    script = """
import sys
import tokio_asyncio_bridge as tab
async def answer(question): return question
answers = tab.map([{"question": "what"}], answer)
answers.table()
loaded = {"pandas", "polars", "pyarrow", "datasets", "numpy", "dspy"} & set(sys.modules)
assert not loaded, loaded
answers.to_polars()
assert "pandas" not in sys.modules and "pyarrow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_pandas_and_polars_need_no_pyarrow_and_a_missing_library_is_named(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["pyarrow"] = None
import pandas, polars
import tokio_asyncio_bridge as tab
async def answer(question): return question
for table in (pandas.DataFrame({"question": ["what"]}), polars.DataFrame({"question": ["what"]})):
    answers = tab.map(table, answer)
    answers.table(), answers.to_pandas(), answers.to_polars()
    try:
        answers.to_arrow()
    except tab.MissingPackageError as error:
        assert "`pyarrow` is not installed" in str(error) and "pip install pyarrow" in str(error), error
    else:
        raise AssertionError
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert issubclass(MissingPackageError, ImportError)
