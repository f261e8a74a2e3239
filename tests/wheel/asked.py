"""What a run of two questions left behind."""

import csv
import logging
from pathlib import Path

import pytest


def answers(file: str | Path = "q.answers.csv") -> list[str]:
    with open(file, newline="") as lines:
        return [row["answer"] for row in csv.DictReader(lines)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
