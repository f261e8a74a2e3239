"""The relay as a program. It is for the coordinator alone, which has the other end of its standard input."""

import contextlib
import json
import os
import signal
import sys


def _main() -> None:
    # They end the coordinator, which then ends this process when it has no more need of it. They are not ignored, for
    # Ray's processes would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        import ray  # noqa: F401
    except ImportError as error:
        hint = "run `pip install '….whl[ray]'` there, with the wheel of this program"
        failed = {"failed": f"`{sys.executable}` has no Ray: {error}\nhint: {hint}"}
        with contextlib.suppress(OSError):
            os.write(0, json.dumps(failed).encode() + b"\n")
        sys.exit(1)
    from tokio_asyncio_bridge._ray._relay import main

    main()


_main()
