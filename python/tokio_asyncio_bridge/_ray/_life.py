"""One actor: placed, asked who it is, connected with the coordinator by two pumps, and proven to be dead."""

import asyncio
import contextlib
import math
import socket
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayError, RuntimeEnvSetupError

from tokio_asyncio_bridge._ray._cluster import Cluster
from tokio_asyncio_bridge._ray._lease import GONE_AFTER, LEASE, POLL

# Ray passes arguments of up to 100 kB on directly, and others through its object store.
_CHUNK = 90_000
# How many chunks may be on their way to an actor.
_PUSHES = 4
# After this time it is said that an actor waits for room.
_PATIENCE = 10
# How long an actor that has nothing more to say, or is to end, may take to end. Then its lease ends it.
_ENDING = 2
# The wait before an actor that Ray calls unavailable is asked again.
_RETRY = 0.2
# Ray takes a process for dead as soon as it has decided to kill it, and kills it at once.
_KILLING = 1
# Without news of the actor for longer than this, it may have ended because its lease ran out.
_STALE = LEASE / 2


def now() -> float:
    """Seconds since the machine started, those in which it or this process slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _reply(reference: Any) -> asyncio.Future[Any]:
    """The reply of an actor. To await the reference itself leaks."""
    return asyncio.wrap_future(reference.future())


class CannotServe(Exception):
    """The actor could not be made, or it does not fit."""


class Life:
    """An actor, from `start` to `died` or `cannot`. Its end of the stream is open as long.

    `placed` is told the node of the actor, and `stalled` tells when this process did not run for long.
    """

    def __init__(
        self,
        number: int,
        stream: socket.socket,
        cluster: Cluster,
        tell: Callable[[dict[str, Any]], None],
        placed: Callable[[int, str], None],
        stalled: Callable[[], float],
    ) -> None:
        self._number, self._stream, self._cluster, self._tell = number, stream, cluster, tell
        self._placed, self._stalled = placed, stalled
        self._killed = asyncio.Event()
        self._actor: Any = None
        self._node = ""
        # When the last poll was sent that the actor has replied to.
        self._heard = now()
        # The number of that poll, and until when polls renew the lease.
        self._polls, self._renews_until = 0, math.inf

    async def run(self) -> None:
        """Ends when the coordinator was told how the actor has ended."""
        try:
            how, proven, oom = await self._live()
        except CannotServe as error:
            self._tell({"cannot": self._number, "why": str(error)})
        except Exception as error:  # Nothing of it must end the other actors.
            self._tell({"cannot": self._number, "why": f"{type(error).__name__}: {error}"})
        else:
            self._tell({"died": self._number, "how": how, "proven": proven, "oom": oom})
        finally:
            self._stream.close()
            if self._actor is not None:
                with contextlib.suppress(RayError, ValueError):
                    ray.kill(self._actor)

    def kill(self) -> None:
        """Ends the actor."""
        self._renews_until = min(self._renews_until, now() + _ENDING)
        self._killed.set()

    def abandon(self) -> None:
        """Has Ray end the actor, without waiting for anything. May be called on any thread."""
        if self._actor is not None:
            ray.kill(self._actor)

    async def _live(self) -> tuple[str, bool, bool]:
        while True:
            facts = await self._place()
            if facts is None:
                return "was ended before it was ready", True, False
            if isinstance(facts, ActorDiedError | OutOfMemoryError):
                return _how(facts), True, isinstance(facts, OutOfMemoryError)
            self._node = facts["node"]
            misfit = self._cluster.misfit(facts)
            name = await self._name()
            if misfit is not None:
                self._cluster.leave_out(self._node)
                raise CannotServe(f"node {name} does not fit: {misfit}")
            if not await asyncio.to_thread(self._cluster.is_left_out, self._node):
                break
            # It had been waiting for room when that node was left out.
            ray.kill(self._actor)
        self._placed(self._number, self._node)
        self._tell({"placed": self._number, "node": name, "pid": facts["pid"]})
        try:
            return await self._serve()
        except Exception as error:  # The actor may still be running its calls.
            self.kill()
            dying = asyncio.create_task(self._die())
            await self._lapse()
            dying.cancel()
            return f"was given up: {type(error).__name__}: {error}", False, False

    async def _place(self) -> dict[str, Any] | ActorDiedError | OutOfMemoryError | None:
        """What the actor says of itself, once it is there; or how it died before. None if it is not wanted any more."""
        self._actor = await asyncio.to_thread(self._cluster.start)
        said = _reply(self._actor.hello.remote(LEASE))
        killed = asyncio.create_task(self._killed.wait())
        try:
            patience: float | None = _PATIENCE
            while not (await asyncio.wait({said, killed}, timeout=patience, return_when="FIRST_COMPLETED"))[0]:
                why = await asyncio.to_thread(self._cluster.why_waiting)
                self._tell({"waiting": self._number, "why": why})
                patience = None
            if not said.done():
                said.cancel()
                return None
            facts: dict[str, Any] = said.result()
        except RuntimeEnvSetupError as error:
            raise CannotServe(f"the runtime environment cannot be made: {error}") from error
        except (ActorDiedError, OutOfMemoryError) as error:
            if getattr(error, "actor_init_failed", False):
                raise CannotServe(await asyncio.to_thread(self._cluster.why_not_made, str(error))) from error
            return error
        except RayError as error:
            raise CannotServe(f"the actor cannot be made: {error}") from error
        finally:
            killed.cancel()
        # The actor counts its lease from before this.
        self._heard = now()
        return facts

    async def _name(self) -> str:
        nodes = await asyncio.to_thread(self._cluster.nodes)
        return next((node.name for node in nodes if node.id == self._node), self._node)

    async def _serve(self) -> tuple[str, bool, bool]:
        pulling = asyncio.create_task(self._pull())
        others = [asyncio.create_task(self._push()), asyncio.create_task(self._die())]
        try:
            while (left := self._heard + GONE_AFTER - now()) > 0:
                if (await asyncio.wait({pulling}, timeout=min(left, 1)))[0]:
                    return await self._ended(pulling)
            return f"was not heard for {GONE_AFTER:g} s", False, False
        finally:
            for task in (pulling, *others):
                task.cancel()
            await asyncio.gather(pulling, *others, return_exceptions=True)

    async def _push(self) -> None:
        """Passes on what the coordinator says."""
        loop, offset, slots = asyncio.get_running_loop(), 0, asyncio.Semaphore(_PUSHES)
        async with asyncio.TaskGroup() as pushes:
            while data := await loop.sock_recv(self._stream, _CHUNK):
                await slots.acquire()
                pushes.create_task(self._push_one(offset, data, slots))
                offset += len(data)
        # The coordinator does not want it any more.
        self.kill()

    async def _push_one(self, offset: int, data: bytes, slots: asyncio.Semaphore) -> None:
        while True:
            try:
                await _reply(self._actor.push.remote(offset, data))
            except ActorUnavailableError:
                await asyncio.sleep(_RETRY)
            except RayError:
                # The poll tells why.
                return
            else:
                slots.release()
                return

    async def _pull(self) -> None:
        """Passes on what the actor says, until it has said all, or raises what became of it."""
        acknowledged = 0
        while (data := await self._poll(acknowledged)) is not None:
            if data:
                await self._pass_on(data, acknowledged)
                acknowledged += len(data)

    async def _pass_on(self, data: bytes, acknowledged: int) -> None:
        """Sends to the coordinator, however long that takes, and keeps up the lease meanwhile."""
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(self._stream, data))
        try:
            while not (await asyncio.wait({sending}, timeout=POLL))[0]:
                # Nothing more is acknowledged, so the actor only says the same again.
                await self._poll(acknowledged)
            sending.result()
        except RayError:
            # It has said this before it died.
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(sending, _ENDING)
            raise
        finally:
            sending.cancel()

    async def _poll(self, acknowledged: int) -> bytes | None:
        """What the actor says after the bytes acknowledged, nothing for now, or None once it has said all."""
        while True:
            sent = now()
            # A poll of number 0 renews nothing.
            number = self._polls + 1 if sent < self._renews_until else 0
            try:
                data: bytes | None = await _reply(self._actor.pull.remote(number, acknowledged, POLL))
            except ActorUnavailableError:
                await asyncio.sleep(_RETRY)
                continue
            if number:
                self._heard, self._polls = sent, number
            return data

    async def _die(self) -> None:
        """Ends the actor once that is asked for. One that cannot be asked ends when its lease does."""
        await self._killed.wait()
        with contextlib.suppress(RayError):
            while True:
                try:
                    await _reply(self._actor.die.remote())
                    return
                except ActorUnavailableError:
                    await asyncio.sleep(_RETRY)

    async def _ended(self, pulling: asyncio.Task[None]) -> tuple[str, bool, bool]:
        """How the actor ended that cannot be polled any more."""
        try:
            pulling.result()
        except (ActorDiedError, OutOfMemoryError) as error:
            return await self._proven(error)
        except OSError:
            # The coordinator has closed its end.
            self.kill()
        else:
            # Its calls are over.
            with contextlib.suppress(RayError, TimeoutError):
                async with asyncio.timeout(_ENDING):
                    await _reply(self._actor.die.remote())
            return "ended", True, False
        try:
            async with asyncio.timeout(max(self._heard + GONE_AFTER - now(), 0)):
                while True:
                    await _reply(self._actor.pull.remote(0, 0, POLL))
        except (ActorDiedError, OutOfMemoryError) as error:
            return await self._proven(error)
        except (RayError, TimeoutError):
            await self._lapse()
            return f"was not heard for {GONE_AFTER:g} s", False, False

    async def _proven(self, error: ActorDiedError | OutOfMemoryError) -> tuple[str, bool, bool]:
        """Ray says that it is dead. It knows that from the node, if that is alive; otherwise it only believes so."""
        how, oom = _how(error), isinstance(error, OutOfMemoryError)
        silent_for = now() - self._heard
        try:
            nodes = await asyncio.wait_for(asyncio.to_thread(self._cluster.nodes), max(self._left(), 0.1))
        except (TimeoutError, RayError):
            nodes = []
        if not any(node.id == self._node for node in nodes):
            await self._lapse()
            return "was lost with its node", False, False
        if "End of file" not in str(error):
            await asyncio.sleep(_KILLING)
        # It may have ended because nobody polled it, and then nothing that it did is to blame.
        lapsed = silent_for > _STALE and now() - self._stalled() < GONE_AFTER
        # The actor counts its lease from a reply that may be two polls older than the last.
        if silent_for > LEASE - 2 * POLL and not oom:
            how = f"did not answer for {LEASE:g} s, perhaps because code held the interpreter's lock"
        return how, not lapsed, oom

    def _left(self) -> float:
        return self._heard + GONE_AFTER - now()

    async def _lapse(self) -> None:
        """Waits until the actor must have ended itself."""
        while (left := self._left()) > 0:
            await asyncio.sleep(left)


def _how(error: Exception) -> str:
    """How an actor died, in words that follow its name."""
    if isinstance(error, OutOfMemoryError):
        return "was killed, because its node ran out of memory"
    return "died"
