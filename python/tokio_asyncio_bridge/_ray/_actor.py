"""The actor: a worker in a process of Ray's. It is sent by its value, and imports this package on the nodes itself."""

import os
import platform
import sys
from typing import Any

import ray


class _SamePython:
    """Refuses to be loaded by another Python, which would die of this one's code without a word."""

    def __reduce__(self) -> tuple[Any, ...]:
        check = (
            "import sys\n"
            f"here, there = '{sys.version_info.major}.{sys.version_info.minor}', '%d.%d' % sys.version_info[:2]\n"
            "if there != here: raise RuntimeError(f'Python {there} is there, and Python {here} here')"
        )
        return exec, (check, {})


class Actor:
    """Serves the coordinator by polls of the relay. Every method but `pull` returns at once."""

    _python = _SamePython()

    def __init__(self) -> None:
        self._serving: Any = None

    @ray.method(concurrency_group="control")
    def hello(self, lease: float) -> dict[str, Any]:
        """Begins the lease. Returns what has to be the same on all nodes, and where this actor is."""
        facts = {
            "ray": ray.__version__,
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "platform": f"{sys.platform}-{platform.machine()}",
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
        }
        try:
            from tokio_asyncio_bridge import _native
        except ImportError as error:
            return {**facts, "error": str(error)}
        self._serving = self._serving or _native.Serving(lease)
        return {**facts, "version": _native.VERSION, "protocol": _native.PROTOCOL}

    @ray.method(concurrency_group="push")
    def push(self, offset: int, data: bytes) -> None:
        """Takes bytes of the coordinator's, which so many precede."""
        self._serving.push(offset, data)

    @ray.method(concurrency_group="pull")
    def pull(self, number: int, acknowledged: int, seconds: float) -> bytes | None:
        """The bytes for the coordinator that follow those acknowledged, once there are some; None after the last."""
        data: bytes | None = self._serving.pull(number, acknowledged, seconds)
        return data

    @ray.method(concurrency_group="control")
    def die(self) -> None:
        """Ends this process, with all that it has started."""
        from tokio_asyncio_bridge import _native

        _native.die()
