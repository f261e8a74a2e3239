"""Checks answers against their questions: that no row is missing, foreign or altered."""

from pathlib import Path

import tokio_asyncio_bridge as tab

QUESTIONS = Path(__file__).parents[2] / "data/questions.csv"


async def answer(question: str) -> str:
    return f"You asked: {question}"


tab.process(QUESTIONS, "answers.csv", predictor=answer)
print(tab.verify(QUESTIONS, "answers.csv"))
