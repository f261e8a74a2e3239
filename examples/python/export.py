"""Writes the answers that a run has so far, here one that its `Stop` ended early."""

import asyncio
from pathlib import Path

import tokio_asyncio_bridge as tab

QUESTIONS = Path(__file__).parents[2] / "data/questions.csv"
stop = tab.Stop()


async def answer(question: str) -> str:
    if "Mona Lisa" in question:
        stop.stop()  # any thread may call it
    await asyncio.sleep(0.05)
    return f"You asked: {question}"


report = tab.process(QUESTIONS, "answers.csv", predictor=answer, concurrency=2, stop=stop)
print(f"stopped: {report.stopped}")
tab.export("answers.csv", "so-far.csv")
print(Path("so-far.csv").read_text())
