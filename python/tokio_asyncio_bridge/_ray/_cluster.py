"""The cluster: connected to or started, its nodes, and how many actors they have room for."""

import importlib
import logging
import math
import os
import platform
import re
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.exceptions import GetTimeoutError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tokio_asyncio_bridge import _native
from tokio_asyncio_bridge._ray import _actor
from tokio_asyncio_bridge._ray._actor import Actor

# Not by `import`: Ray's own types are incomplete, and lack options of its actors.
ray: Any = importlib.import_module("ray")
# So that an actor can also be made where this package cannot be imported, and say so.
ray.cloudpickle.register_pickle_by_value(_actor)

# The memory of Ray's object store where we start it, in bytes. Nothing of ours goes there.
_OBJECTS = 100 << 20
# How long the head may take to accept a connection. Ray itself tries for minutes.
_REACH = 10
# How long a node may take to say whether it has this package.
_PROBE = 60


class CannotConnect(Exception):
    """There is no cluster, or it does not fit. The text holds the reason and the remedy."""


class CannotReach(CannotConnect):
    """There is no cluster now. There may be one later."""


@dataclass(frozen=True)
class Node:
    """A node that is alive."""

    id: str
    name: str
    resources: dict[str, float]


@dataclass
class Cluster:
    """A cluster that this process is connected to. To be used on one thread, but for `nodes`."""

    # What each actor asks for.
    cpus: float
    gpus: float
    resources: dict[str, float]
    # What is known of the connection, in words.
    note: str = ""
    # Nodes that get no more actors.
    _left_out: set[str] = field(default_factory=set)

    @classmethod
    def connect(cls, request: dict[str, Any]) -> "Cluster":
        """Connects, or starts a cluster where the address is `local`. Blocks.

        To be called on the main thread: Ray's processes are to end with the thread that starts them. Raises
        CannotConnect.
        """
        _check(request)
        address = request["address"]
        cpus, gpus = request.get("cpus"), request.get("gpus")
        cluster = cls(1.0 if cpus is None else cpus, gpus or 0.0, dict(request.get("resources") or {}))
        runtime_env = dict(request.get("runtime_env") or {})
        if address == "local":
            _init(address, runtime_env)
            return cluster
        # These take minutes to be made, and take nothing away of what a node has.
        quick = {name: value for name, value in runtime_env.items() if name not in ("pip", "uv")}
        _init(address, quick)
        others, silent = _without_package()
        notes = []
        if others:
            size = sum(file.stat().st_size for file in _package().rglob("*") if file.is_file())
            runtime_env["py_modules"] = [*runtime_env.get("py_modules", []), str(_package())]
            notes.append(f"this package was sent to {', '.join(others)} ({size / 1e6:.0f} MB)")
        if silent:
            notes.append(f"whether this package is there, {', '.join(silent)} did not say within {_PROBE} s")
        cluster.note = "; ".join(notes)
        if runtime_env != quick:
            ray.shutdown()
            _init(address, runtime_env)
        return cluster

    def nodes(self) -> list[Node]:
        """The nodes that are alive. Blocks while the head does not answer."""
        alive = [node for node in ray.nodes() if node["Alive"]]
        hosts = [(node["NodeManagerHostname"], node["NodeManagerAddress"]) for node in alive]

        def name(node: dict[str, Any]) -> str:
            host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
            part = f", {node['NodeID'][:6]}" if hosts.count((host, address)) > 1 else ""
            return f"{host} ({address}{part})"

        return [Node(node["NodeID"], name(node), node["Resources"]) for node in alive]

    def capacity(self, nodes: list[Node]) -> int:
        """How many actors the nodes have room for if nobody else uses them."""
        usable = [node for node in nodes if node.id not in self._excluded(nodes)]
        return sum(self._room(node.resources) for node in usable)

    def _room(self, resources: dict[str, float]) -> int:
        asked = {**self.resources, **self._asked()}
        asked = {name: amount for name, amount in asked.items() if amount > 0}
        if not asked:
            return math.floor(resources.get("CPU", 0))
        return min(math.floor(resources.get(name, 0) / amount + 1e-9) for name, amount in asked.items())

    def _asked(self) -> dict[str, float]:
        return {"CPU": self.cpus, "GPU": self.gpus}

    def why_waiting(self) -> str:
        """Why an actor has no place yet."""
        asked = {**self._asked(), **self.resources}
        nodes = self.nodes()
        if not any(self._room(node.resources) for node in nodes):
            most = {name: max(node.resources.get(name, 0) for node in nodes) for name in asked}
            there = ", ".join(f"{most[name]:g} {name}" for name, amount in asked.items() if amount > 0)
            return (
                f"no node is large enough: {_amounts(asked)} asked for, and a node has {there} at the most"
                "\nhint: ask for less with `--ray-cpus`, `--ray-gpus` or `--ray-resources`, or add such a node"
            )
        free, total = ray.available_resources(), ray.cluster_resources()
        wanted = _amounts(asked)
        there = ", ".join(
            f"{free.get(name, 0):g} of {total.get(name, 0):g} {name} are free"
            for name, amount in asked.items()
            if amount > 0
        )
        return f"no node has room: {wanted} asked for, {there}" if wanted else "no node has taken it yet"

    def start(self) -> Any:
        """A new actor, as soon as there is room for it. It is never restarted, and no call of it is repeated."""
        # A node cannot be left out once there is none other.
        excluded = self._excluded(None)
        selector = {"ray.io/node-id": f"!in({','.join(sorted(excluded))})"} if excluded else None
        actor = ray.remote(
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            resources=self.resources or None,
            max_restarts=0,
            max_task_retries=0,
            enable_task_events=False,
            concurrency_groups={"push": 1, "pull": 1, "control": 2},
            scheduling_strategy="SPREAD",
            label_selector=selector,
        )(Actor)
        return actor.remote()

    def leave_out(self, node: str) -> None:
        """Starts no more actors on the node, unless there is none other."""
        self._left_out.add(node)

    def is_left_out(self, node: str) -> bool:
        """Whether the node gets no actors."""
        return node in self._excluded(None)

    def _excluded(self, nodes: list[Node] | None) -> set[str]:
        if not self._left_out:
            return set()
        alive = {node.id for node in (self.nodes() if nodes is None else nodes)}
        excluded = self._left_out & alive
        return set() if excluded == alive else excluded

    def why_not_made(self, error: str) -> str:
        """Why an actor could not be made, from the traceback that Ray gave. Its node is left out, if it can be told."""
        address = re.search(r"\bip=([^,)\s]+)", error)
        nodes = [node for node in self.nodes() if address and f"({address[1]}" in node.name]
        if len(nodes) == 1:
            self.leave_out(nodes[0].id)
        where = f"on node {nodes[0].name}" if len(nodes) == 1 else f"at {address[1]}" if address else "on a node"
        *_, reason = [line for line in re.sub(r"\x1b\[\d*m", "", error).splitlines() if line.strip()]
        return f"no actor can be made {where}: {reason}"

    def misfit(self, facts: dict[str, Any]) -> str | None:
        """What is not the same at an actor as here, both named."""
        here = {
            "ray": ("Ray", ray.__version__),
            "python": ("Python", _python()),
            "version": ("tokio-asyncio-bridge", _native.VERSION),
            "protocol": ("worker protocol", _native.PROTOCOL),
        }
        if "error" in facts and "version" not in facts:
            there = f"Python {facts['python']}, {facts['platform']}"
            own = f"Python {_python()}, {sys.platform}-{platform.machine()}"
            return (
                f"tokio-asyncio-bridge cannot be imported there ({there}; here {own}): {facts['error']}"
                f"\nhint: install tokio-asyncio-bridge {_native.VERSION} there, or leave the node out of the cluster"
            )
        for key, (name, own) in here.items():
            if facts[key] != own:
                return f"{name} {facts[key]} is there, and {name} {own} here"
        return None


def _amounts(resources: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items() if amount > 0)


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _package() -> Path:
    return Path(__file__).parents[1]


def _check(request: dict[str, Any]) -> None:
    """Raises CannotConnect if the coordinator is another build than this package, or asks for what does not work."""
    here = {"version": _native.VERSION, "protocol": _native.PROTOCOL, "python": _python()}
    names = {"version": "tokio-asyncio-bridge", "protocol": "worker protocol", "python": "Python"}
    for key, own in here.items():
        asked = request.get(key)
        if asked is not None and asked != own:
            raise CannotConnect(
                f"`{sys.executable}` has {names[key]} {own}, and the program has {asked}"
                "\nhint: install the same version there"
            )
    # Ray takes the variable for `auto`.
    from_variable = request["address"] == "auto"
    address = os.environ.get("RAY_ADDRESS", "") if from_variable else request["address"]
    if address.startswith("ray://"):
        where = ", which RAY_ADDRESS names," if from_variable else ""
        raise CannotConnect(
            f"Ray Client (`ray://`){where} is not supported"
            "\nhint: run the program on the cluster with `ray job submit -- …`, with `--ray auto`"
        )
    if ":" in request["address"]:
        host, _, port = request["address"].rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=_REACH).close()
        except OSError as error:
            raise _unreachable(request["address"], error) from error


def _unreachable(address: str, error: OSError) -> CannotReach:
    hint = "start one with `ray start --head`, or take `--ray local`" if address == "auto" else "is it running?"
    return CannotReach(f"the Ray cluster `{address}` cannot be reached: {error}\nhint: {hint}")


def _init(address: str, runtime_env: dict[str, Any]) -> None:
    # A cluster that somebody else started decides about these itself.
    if address == "local":
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Within `ray job submit`, what is asked for here comes first.
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
    os.environ.setdefault("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "minor")
    # So that Ray's processes do not inherit that a signal is ignored.
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    options: dict[str, Any] = {}
    if address == "local":
        options = {"include_dashboard": False, "object_store_memory": _OBJECTS}
    options["runtime_env"] = runtime_env or None
    try:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:
            # A node has 30 s to start, which is little on a machine that is busy.
            if address != "local" or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except OSError as error:
        if address != "local":
            raise _unreachable(address, error) from error
        raise CannotConnect(f"failed to start Ray: {error}") from error
    except Exception as error:
        raise CannotConnect(f"failed to connect to Ray (`{address}`): {error}") from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _without_package() -> tuple[list[str], list[str]]:
    """The names of the nodes that do not have this package, and of those that do not say whether they do."""

    def probe() -> bool:
        try:
            import tokio_asyncio_bridge  # noqa: F401
        except ModuleNotFoundError as error:
            return error.name != "tokio_asyncio_bridge"
        return True

    # It is sent by its value, for it is a function within a function.
    asked: Callable[..., Any] = ray.remote(num_cpus=0, max_retries=0)(probe).options
    here = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here}
    replies = {id: asked(scheduling_strategy=NodeAffinitySchedulingStrategy(id, soft=False)).remote() for id in nodes}
    if replies:
        ray.wait(list(replies.values()), num_returns=len(replies), timeout=_PROBE)
    missing, silent = [], []
    for id, reply in replies.items():
        try:
            if not ray.get(reply, timeout=0):
                missing.append(nodes[id]["NodeManagerHostname"])
        except GetTimeoutError:
            silent.append(nodes[id]["NodeManagerHostname"])
            ray.cancel(reply, force=True)
        except Exception:  # An actor there will tell why it cannot be made.
            continue
    return missing, silent
