"""Answers rows of this process: a list in, the outcomes in the same order out."""

import asyncio

import tokio_asyncio_bridge as tab


async def area(width: float, height: float) -> float:
    await asyncio.sleep(0.05)
    if width < 0 or height < 0:
        raise ValueError("a length is negative")
    return width * height


rows = [{"width": 2.0, "height": 3.0}, {"width": -1.0, "height": 3.0}, {"width": 4.0, "height": 0.5}]
answers = tab.map(rows, area, concurrency=100, retries=0)
for outcome in answers:
    print(outcome.row, outcome.answer if outcome.ok else outcome.error)

# A table in gives a table out: `tab.map(frame, area).to_pandas()` appends the columns `answer`, `status`, `error`,
# `attempts` and `latency_ms`.
