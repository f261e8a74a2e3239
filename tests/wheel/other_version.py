"""A relay whose actors say that another version of Ray runs on the nodes where `OTHER_RAY` is set."""

import os
from typing import Any

import ray
from tokio_asyncio_bridge._ray import _cluster, _relay
from tokio_asyncio_bridge._ray._actor import Actor


class Other(Actor):
    @ray.method(concurrency_group="control")
    def hello(self, lease: float) -> dict[str, Any]:
        facts = super().hello(lease)
        return {**facts, "ray": os.environ.get("OTHER_RAY", facts["ray"])}


if __name__ == "__main__":
    _cluster.Actor = Other  # type: ignore[misc]
    _relay.main()
