"""What all tests of the wheel begin with."""

import logging
import signal
from pathlib import Path

import pytest

# A shell that runs the tests in the background starts them with SIGINT ignored, and so would be every process that they
# start. Then Ctrl-C raises nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    """A directory with two questions. Files with other needs have a fixture of that name themselves."""
    monkeypatch.chdir(tmp_path)
    Path("q.csv").write_text("question,n\na,1\nb,2\n")
    caplog.set_level(logging.INFO, "tokio_asyncio_bridge")
    return tmp_path
