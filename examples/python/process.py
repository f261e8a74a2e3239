"""Answers a file of questions, as `tab process` does. Called again, it goes on where it stopped."""

import asyncio
from pathlib import Path

import tokio_asyncio_bridge as tab

QUESTIONS = Path(__file__).parents[2] / "data/questions.csv"


async def answer(question: str) -> str:
    await asyncio.sleep(0.05)  # where a real one awaits its model
    return f"You asked: {question}"


report = tab.process(QUESTIONS, "answers.csv", predictor=answer, concurrency=8, timeout=30.0)
print(report)
print(f"half of the calls took less than {report.latency_ms.ok.p50:.0f} ms")
