"""A DSPy module: it asks the model that `--model` names, and each output field becomes a column."""

import dspy


class Quiz(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.ChainOfThought("question, category -> answer")

    async def aforward(self, question: str, category: str) -> dspy.Prediction:
        return await self.think.acall(question=question, category=category)


predict = Quiz()
