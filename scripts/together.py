"""Runs shell commands side by side: `together.py 'make lint' 'make test-wheels'`.

What the first says is shown as it comes; what each other one says, when it and those before it have ended. Exits with
the code of the first that fails, after all have ended.
"""

import subprocess
import sys
import tempfile
from contextlib import ExitStack

with ExitStack() as stack:
    first, *others = sys.argv[1:]
    logs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in others]
    running = [subprocess.Popen(first, shell=True)]
    for command, log in zip(others, logs, strict=True):
        running.append(subprocess.Popen(command, shell=True, stdout=log, stderr=subprocess.STDOUT))
    codes = [running[0].wait()]
    for process, log in zip(running[1:], logs, strict=True):
        codes.append(process.wait())
        log.seek(0)
        sys.stdout.write(log.read())
        sys.stdout.flush()

sys.exit(next((abs(code) for code in codes if code != 0), 0))
