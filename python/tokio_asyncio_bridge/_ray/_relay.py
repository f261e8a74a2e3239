"""The relay: what the coordinator asks for, done with Ray."""

import asyncio
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import ray

from tokio_asyncio_bridge import _native
from tokio_asyncio_bridge._ray._cluster import CannotConnect, CannotReach, Cluster, Node
from tokio_asyncio_bridge._ray._control import Control
from tokio_asyncio_bridge._ray._lease import GONE_AFTER
from tokio_asyncio_bridge._ray._life import Life, now

# How often the nodes are looked at, and after what time without a reply of the head it is taken for gone.
_LOOK = 1.0
_LOST_AFTER = 15.0
# How long the actors may take to end when the head is gone. Their ends are not heard then.
_ENDING = 2.0
# How long the actors may be told that the coordinator is gone. Then this process is killed, with those of Ray's that it
# has started.
_PARTING = 0.5
# A gap of so many seconds in which this process did not run is noted.
_GAP = 2.0


class Relay:
    """The coordinator's wishes and the actors. All but `abandon` happens on one event loop."""

    def __init__(self, control: Control, cluster: Cluster) -> None:
        self._control, self._cluster = control, cluster
        self._lives: dict[int, Life] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Where each actor was placed, also after its end.
        self._nodes: dict[int, str] = {}
        self._stalled = -GONE_AFTER
        self._over = asyncio.Event()
        self._seconds = 0.0

    async def run(self, nodes: list[Node]) -> float:
        """Serves the coordinator until it closes. Returns the seconds that are left to end Ray, or raises Lost."""
        self._control.hear_in(asyncio.get_running_loop(), self._take)
        watching = [asyncio.create_task(self._watch(nodes)), asyncio.create_task(self._beat())]
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait({over, watching[0]}, return_when="FIRST_COMPLETED")
        if not over.done():
            # They can be told without the head. Those that have no place yet do not call anything.
            for number in self._lives.keys() & self._nodes.keys():
                self._lives[number].kill()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_ENDING)
            watching[0].result()
        until = now() + self._seconds
        for life in self._lives.values():
            life.kill()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._seconds / 2)
        return max(until - now(), 0.0)

    def abandon(self) -> None:
        """Has Ray end all actors."""
        for life in list(self._lives.values()):
            life.abandon()

    def _take(self, message: dict[str, Any], descriptor: int | None) -> None:
        match message:
            case {"start": number} if descriptor is not None:
                stream = socket.socket(fileno=descriptor)
                stream.setblocking(False)
                placed, stalled = self._nodes.__setitem__, lambda: self._stalled
                life = Life(number, stream, self._cluster, self._control.tell, placed, stalled)
                self._lives[number] = life
                task = asyncio.create_task(life.run())
                self._tasks.add(task)
                task.add_done_callback(lambda task: self._ended(number, task))
            case {"kill": number}:
                if number in self._lives:
                    self._lives[number].kill()
            case {"refused": number}:
                if number in self._nodes:
                    self._cluster.leave_out(self._nodes[number])
            case {"close": seconds}:
                self._seconds = seconds
                self._over.set()

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._lives.pop(number, None)

    async def _watch(self, nodes: list[Node]) -> None:
        """Tells how many actors there is room for when that changes. Ends once the head does not answer any more."""
        loop, told = asyncio.get_running_loop(), self._cluster.capacity(nodes)
        # Not one of the threads that may all be waiting for something else of the head's.
        thread = ThreadPoolExecutor(1)
        while True:
            await asyncio.sleep(_LOOK)
            try:
                nodes = await asyncio.wait_for(loop.run_in_executor(thread, self._cluster.nodes), _LOST_AFTER)
            except Exception as error:
                raise Lost("the head of the Ray cluster does not answer any more") from error
            if not nodes:
                raise Lost("the Ray cluster has no nodes any more")
            capacity = self._cluster.capacity(nodes)
            if capacity != told:
                told = capacity
                self._control.tell({"capacity": capacity})

    async def _beat(self) -> None:
        """Notes when this process did not run for long: the leases of all actors run out then."""
        while True:
            before = now()
            await asyncio.sleep(_GAP / 4)
            if now() - before > _GAP:
                self._stalled = now()


class Lost(Exception):
    """The cluster is gone."""


def main() -> NoReturn:
    """Serves the coordinator on the standard input, and ends this process."""
    # Ray may hold the interpreter's lock for long, so no thread of Python's can promise that.
    _native.end_with_coordinator(_PARTING)
    control = Control.take()
    # What Ray prints of its workers' deaths is told in other words.
    sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    heard = control.hear()
    if heard is None:
        os._exit(1)
    try:
        cluster = Cluster.connect(heard[0]["connect"])
        nodes = cluster.nodes()
    except CannotConnect as error:
        control.tell({"failed": str(error), "unreachable": isinstance(error, CannotReach)})
        _end(1, 5.0)
    cpus = sum(node.resources.get("CPU", 0) for node in nodes)
    words = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    notes = [f"{words}, {cpus:g} CPUs", *([cluster.note] if cluster.note else [])]
    control.tell(
        {
            "connected": {
                "nodes": [node.name for node in nodes],
                "capacity": cluster.capacity(nodes),
                "ray": ray.__version__,
                "note": "; ".join(notes),
                "gone_after": GONE_AFTER,
            }
        }
    )

    async def serve() -> NoReturn:
        relay = Relay(control, cluster)
        control.watch(relay.abandon)
        # The loop is not closed: that would wait for a thread that waits for the head.
        try:
            _end(0, await relay.run(nodes))
        except Lost as error:
            control.tell({"lost": str(error)})
            os._exit(1)

    asyncio.run(serve())
    raise AssertionError("the process has ended")


def _end(code: int, seconds: float) -> NoReturn:
    """Leaves the cluster, which ends if it was started here, and ends this process."""
    timer = threading.Timer(seconds, lambda: os._exit(code))
    timer.daemon = True
    timer.start()
    ray.shutdown()
    os._exit(code)
