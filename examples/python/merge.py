"""Joins the answers of shards, which machines that share nothing may make, into one run."""

from pathlib import Path

import tokio_asyncio_bridge as tab

QUESTIONS = Path(__file__).parents[2] / "data/questions.csv"


async def answer(question: str) -> str:
    return f"You asked: {question}"


shards = [f"shard-{number}.csv" for number in range(3)]
for number, shard in enumerate(shards):
    tab.process(QUESTIONS, shard, predictor=answer, shard=(number, len(shards)))

report = tab.merge(QUESTIONS, shards, "answers.csv")
print(report)
