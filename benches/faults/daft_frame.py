"""A job on Daft: an async row-wise UDF.

    daft_frame.py INPUT OUTPUT IN_FLIGHT SETTINGS

INPUT is a directory of CSV files, and OUTPUT one of Parquet files. SETTINGS is a JSON object:

- `udf`: arguments of `daft.func`, such as `max_retries` and `on_error`.
- `runner`: `native`, which makes the calls in this process, or `ray`.
- `checkpoint`: a directory for `daft.CheckpointConfig` (on the Ray runner only).
"""

import json
import os
import sys
from typing import Any

import aiohttp
import daft
from daft.ai.utils import raise_retry_after_from_response
from predictor import ask


def start_ray() -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,
        _temp_dir=os.environ["FAULTS_RAY"],
    )
    daft.set_runner_ray()


def main() -> None:
    source, target, in_flight, words = sys.argv[1:]
    settings: dict[str, Any] = json.loads(words)
    if settings.get("runner") == "ray":
        start_ray()
    else:
        daft.set_runner_native()

    @daft.func(max_concurrency=int(in_flight), **settings.get("udf", {}))
    async def answer(question: str) -> str:
        try:
            text: str = await ask(question)
            return text
        except aiohttp.ClientResponseError as error:
            # What Daft's own providers do with a 429: a Retry-After is obeyed.
            raise_retry_after_from_response(error, error)

    checkpoint = None
    if "checkpoint" in settings:
        checkpoint = daft.CheckpointConfig(daft.CheckpointStore(f"file://{settings['checkpoint']}"), on="id")
    rows = daft.read_csv(source, checkpoint=checkpoint)
    rows.with_column("answer", answer(rows["question"])).write_parquet(target)


if __name__ == "__main__":
    main()
