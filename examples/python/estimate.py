"""Tells what a job would call and cost. Calls nothing."""

from pathlib import Path

import tokio_asyncio_bridge as tab

QUESTIONS = Path(__file__).parents[2] / "data/questions.csv"


async def answer(question: str) -> str:
    return f"You asked: {question}"


print(tab.estimate(QUESTIONS, predictor=answer, concurrency=8))
