"""A job on Ray Data, as its documentation tells to write it: `map_batches` with an async actor class.

    ray_data.py INPUT OUTPUT IN_FLIGHT SETTINGS

INPUT is a directory of CSV files, each of which becomes a block, and OUTPUT one of Parquet files. SETTINGS is a JSON
object:

- `context`: attributes of `ray.data.DataContext`, such as `max_errored_blocks` or `retried_map_errors`.
- `actor`: arguments for the actors, such as `max_restarts` and `max_task_retries` (both are -1 if none are given).
- `checkpoint`: a directory for `CheckpointConfig`.
- `http`: arguments of `ray.data.llm.HttpRequestProcessorConfig`, which then takes the place of the actor class.

Two actors have four batches in flight each, which is what Ray Data gives an async class. Their size follows from
IN_FLIGHT.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import ray
from predictor import ask
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.checkpoint import CheckpointConfig

ACTORS = 2


class Ask:
    """Answers the rows of a batch at once."""

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        answers = await asyncio.gather(*(ask(str(question)) for question in batch["question"]))
        yield {"id": batch["id"], "question": batch["question"], "answer": answers}


def by_actors(rows: Dataset, in_flight: int, settings: dict[str, Any]) -> Dataset:
    return rows.map_batches(
        Ask,
        batch_size=max(in_flight // (ACTORS * 4), 1),
        compute=ActorPoolStrategy(size=ACTORS),
        **settings.get("actor", {}),
    )


def by_http(rows: Dataset, in_flight: int, settings: dict[str, Any]) -> Dataset:
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    def request(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "payload": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": row["question"]}]}}

    def answer(row: dict[str, Any]) -> dict[str, Any]:
        reply = row["http_response"]
        # In a block with an error, its body and the answers share one schema.
        text = (
            reply["choices"][0]["message"]["content"]
            if reply.get("choices") is not None
            else json.dumps(reply, default=str)
        )
        return {"id": row["id"], "question": row["question"], "answer": text}

    config = HttpRequestProcessorConfig(
        url=f"{os.environ['FAULTS_URL']}/v1/chat/completions",
        batch_size=max(in_flight // ACTORS, 1),
        concurrency=ACTORS,
        **settings["http"],
    )
    return build_processor(config, preprocess=request, postprocess=answer)(rows)


def main() -> None:
    source, target, in_flight, words = sys.argv[1:]
    settings = json.loads(words)
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,
        _temp_dir=os.environ["FAULTS_RAY"],
    )
    context = DataContext.get_current()
    context.enable_progress_bars = False
    for name, value in settings.get("context", {}).items():
        setattr(context, name, value)
    if "checkpoint" in settings:
        context.checkpoint_config = CheckpointConfig("id", settings["checkpoint"], delete_checkpoint_on_success=False)
    rows = ray.data.read_csv(source, override_num_blocks=len(list(Path(source).iterdir())))
    answered = by_http if "http" in settings else by_actors
    answered(rows, int(in_flight), settings).write_parquet(target)


if __name__ == "__main__":
    main()
