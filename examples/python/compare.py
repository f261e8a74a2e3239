"""Measures how much faster calls at once are than one after the other."""

import asyncio
from pathlib import Path

import tokio_asyncio_bridge as tab

QUESTIONS = Path(__file__).parents[2] / "data/questions.csv"


async def answer(question: str) -> str:
    await asyncio.sleep(0.02)
    return f"You asked: {question}"


comparison = tab.compare(QUESTIONS, predictor=answer, concurrency=8, runs=3)
print(comparison)
