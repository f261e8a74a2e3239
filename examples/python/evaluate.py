"""Scores a DSPy program on a set of examples, as `dspy.Evaluate` does."""

import dspy
import tokio_asyncio_bridge as tab
from dspy.utils import DummyLM

# Stands for a real model, such as `dspy.LM("openai/gpt-4o-mini")`.
knows = {"France": "Paris", "Italy": "Rome", "Peru": "Cusco"}
dspy.configure(lm=DummyLM({country: {"capital": capital} for country, capital in knows.items()}))


def right(example: dspy.Example, prediction: dspy.Prediction) -> bool:
    return bool(example.capital == prediction.capital)


pairs = [("France", "Paris"), ("Italy", "Rome"), ("Peru", "Lima")]
devset = [dspy.Example(country=country, capital=capital).with_inputs("country") for country, capital in pairs]

result = tab.evaluate(dspy.Predict("country -> capital"), devset, right, concurrency=8)
print(f"{result.score} % right")
for example, prediction, score in result.results:
    print(example.country, prediction.capital, score)
