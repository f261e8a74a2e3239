"""The console scripts: the command line, in a process of its own."""

import os
import signal
import sys

from tokio_asyncio_bridge import TYPE_CHECKING, _native

if TYPE_CHECKING:
    from typing import NoReturn


def main() -> "NoReturn":
    """Runs the command line on the process's arguments, to the end of the process."""
    # The program takes over the signals that end a job. Python's own handler would raise KeyboardInterrupt besides.
    # Where the parent has the signal ignored, Python has no handler of it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _native.main([_name(), *sys.argv[1:]])
    raise AssertionError("the program ends the process")


def _name() -> str:
    """How this program is called, for the commands that its hints name."""
    import shutil  # Only now, when Ctrl-C ends the program without a traceback.

    path = sys.argv[0]
    if os.path.basename(path) == "__main__.py":
        # The console script beside the Python of `python -m`; elsewhere there is none if it was installed without any.
        path = os.path.join(os.path.dirname(sys.executable), "tokio-asyncio-bridge")
        if not os.path.exists(path):
            return "tokio-asyncio-bridge"
    name = os.path.basename(path)
    return name if shutil.which(name) == path else path
