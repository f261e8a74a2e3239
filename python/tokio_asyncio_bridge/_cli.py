"""The console scripts: the command line, in a process of its own."""

import os
import shutil
import signal
import sys
from typing import NoReturn

from tokio_asyncio_bridge import _native


def main() -> NoReturn:
    """Runs the command line on the process's arguments, to the end of the process."""
    # The program takes over the signals that end a job. Python's own handler would raise KeyboardInterrupt besides.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _native.main([_name(), *sys.argv[1:]])
    raise AssertionError("the program ends the process")


def _name() -> str:
    """How this program is called, for the commands that its hints name."""
    path = sys.argv[0]
    if os.path.basename(path) == "__main__.py":
        return "tokio-asyncio-bridge"
    name = os.path.basename(path)
    return name if shutil.which(name) == path else path
