import os
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, final

Words = list[tuple[str, str]]

def main(arguments: Sequence[str]) -> NoReturn: ...
def answer(
    rows: str,
    answers: str,
    predictor: object | None,
    options: Words,
    *,
    force: bool,
    skip_failed: bool,
    allow_changed: bool,
) -> Run: ...
def answer_columns(own: list[str], fields: list[str]) -> tuple[list[str], list[str]]: ...

@final
class Run:
    def wait(self, seconds: float) -> bool: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def standing(self) -> str | None: ...
    def messages(self) -> list[tuple[Literal["note", "warning", "error"], str]]: ...
    def result(self) -> str: ...

def process(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str] | None,
    options: Words,
    *,
    predictor: object | None,
    force: bool,
    skip_failed: bool,
    allow_changed: bool,
) -> Run: ...
def resume(
    answers: str | os.PathLike[str],
    options: Words,
    *,
    predictor: object | None,
    only: str | None,
    allow_changed: bool,
) -> Run: ...

@final
class Outcomes:
    def __new__(cls, journal: str) -> Outcomes: ...
    def of(self, start: int, end: int) -> list[dict[str, Any] | None]: ...
