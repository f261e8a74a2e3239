"""The cells of the table: which fault is made, and with which documented settings each system meets it."""

from typing import Any, NamedTuple

SETTLE = {"retried_map_errors": ["429", "500"], "max_errored_blocks": -1}
"""Ray Data: repeat a block for these errors, and drop it in the end rather than fail the job."""

SYSTEMS = {
    "ours": "`--workers 2`",
    "ours-ray": "`--ray local --ray-actors 2`",
    "ray": "Ray Data, `map_batches` with an async actor class",
    "ray-http": "`ray.data.llm`, `HttpRequestProcessorConfig`",
    "daft": "Daft's native runner, async UDF",
    "daft-ray": "Daft's Ray runner, async UDF",
}


class Cell(NamedTuple):
    """One system under one fault; `settings` are words of our command line, or the JSON of the peers' scripts."""

    system: str
    settings: dict[str, Any]
    name: str = ""


class Fault(NamedTuple):
    """What is asked, what is broken, and what each system is told about it."""

    about: str
    cells: list[Cell]
    rows: int = 200
    latency_ms: int = 100
    broken: tuple[int, ...] = ()
    once: tuple[int, ...] = ()
    poison: int | None = None
    limit: int | None = None
    kill: str | None = None

    @property
    def all_answered(self) -> bool:
        """Whether nothing is broken, so that each call takes as long as the server is told to wait."""
        return not self.broken and not self.once and self.poison is None and self.kill is None


def ours(*words: str) -> list[Cell]:
    return [
        Cell("ours", {"words": ["--workers", "2", *words]}),
        Cell("ours-ray", {"words": ["--ray", "local", "--ray-actors", "2", *words]}),
    ]


def daft(udf: dict[str, Any], **more: Any) -> list[Cell]:
    named = ", ".join(f"{name}={value}" for name, value in udf.items())
    runners = ("native", "ray")
    systems = ("daft", "daft-ray")
    return [
        Cell(system, {"udf": udf, "runner": runner, **(more if runner == "ray" else {})}, named)
        for system, runner in zip(systems, runners, strict=True)
    ]


BOUNDED = {"max_restarts": 3, "max_task_retries": 3}
TEN = {"max_retries": 10, "on_error": "ignore"}

FAULTS = {
    "storm": Fault(
        "a server admits 50 requests per 2 s, and refuses the others with a Retry-After",
        [
            *ours(),
            Cell("ray", {"context": {**SETTLE, "max_map_retries": 10}}, "max_map_retries=10"),
            Cell("ray-http", {"http": {"max_retries": 10}, "context": {"max_errored_blocks": -1}}, "max_retries=10"),
            *daft(TEN),
        ],
        limit=50,
    ),
    "poison": Fault(
        "one row kills the process that calls it, each time",
        [
            *ours(),
            Cell("ray", {"context": SETTLE}, "max_errored_blocks=-1"),
            Cell("ray", {"context": SETTLE, "actor": BOUNDED}, "max_restarts=3, max_task_retries=3"),
            *daft(TEN),
            Cell("daft", {"udf": {**TEN, "use_process": True}, "runner": "native"}, "use_process=True"),
        ],
        poison=105,
    ),
    "worker": Fault(
        "kill -9 of a worker in mid-run",
        [
            *ours(),
            Cell("ray", {"context": SETTLE}, "max_errored_blocks=-1"),
            Cell("daft", {"udf": {**TEN, "use_process": True}, "runner": "native"}, "use_process=True"),
            daft(TEN)[1],
        ],
        kill="worker",
    ),
    "driver": Fault(
        "kill -9 of the program that was started, which is then started again",
        [
            *ours(),
            Cell("ray", {"context": SETTLE, "checkpoint": True}, "CheckpointConfig"),
            daft(TEN)[0],
            *[cell._replace(name="CheckpointConfig") for cell in daft(TEN, checkpoint=True)[1:]],
        ],
        kill="driver",
    ),
    "500": Fault(
        "five rows always get a 500, and five others once",
        [
            *ours(),
            Cell("ray", {}, "as it comes"),
            Cell("ray", {"context": {**SETTLE, "max_map_retries": 3}}, "max_map_retries=3"),
            Cell("ray-http", {"http": {"max_retries": 3}, "context": {"max_errored_blocks": -1}}, "max_retries=3"),
            *daft({}),
            *daft({"max_retries": 3, "on_error": "ignore"}),
        ],
        broken=(10, 50, 90, 130, 170),
        once=(25, 65, 105, 145, 185),
    ),
    "bound": Fault(
        "16 calls in flight are asked for",
        [*ours(), Cell("ray", {}, "2 actors, 4 batches of 2"), *daft({})],
        latency_ms=300,
    ),
}
