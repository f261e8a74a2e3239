"""Adapts DSPy to the local model, which is very small: its settings, its examples, and a grammar for its replies."""

from typing import Any

import dspy
import pydantic

MODEL = "openai/SmolLM2-135M-Instruct"
# The longest text, and the longest list, that the grammar allows; `max_tokens` is so high that these end a reply first.
LONGEST_TEXT = 200
LONGEST_LIST = 5
# A key of our own keeps an `OPENAI_API_KEY` of the environment from being sent to the local server.
DEFAULTS = {"temperature": 0.0, "max_tokens": 1024, "engine": "lm15", "api_key": "none"}

# A model this small answers much better, and more briefly, after two examples.
DEMOS = [
    dspy.Example(
        question="What is the capital of Spain?", reasoning="The capital of Spain is Madrid.", answer="Madrid"
    ),
    dspy.Example(question="What is 1+1?", reasoning="One plus one is two.", answer="2"),
]


class LocalAdapter(dspy.JSONAdapter):
    """Sends the signature's JSON schema along, which the server enforces as a grammar: every reply can be parsed."""

    async def acall(
        self, lm: dspy.LM, lm_kwargs: dict[str, Any], signature: Any, demos: list[Any], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        return await super().acall(lm, constrained(lm_kwargs, signature), signature, demos, inputs)

    def __call__(
        self, lm: dspy.LM, lm_kwargs: dict[str, Any], signature: Any, demos: list[Any], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        return super().__call__(lm, constrained(lm_kwargs, signature), signature, demos, inputs)


def constrained(lm_kwargs: dict[str, Any], signature: Any) -> dict[str, Any]:
    """The arguments of a request, with the schema of the signature's outputs as the form of the reply."""
    outputs = {name: (field.annotation, ...) for name, field in signature.output_fields.items()}
    schema = pydantic.create_model("Outputs", **outputs).model_json_schema()
    bound(schema)
    form = {"type": "json_schema", "json_schema": {"name": "outputs", "schema": schema, "strict": True}}
    return {**lm_kwargs, "response_format": form}


def bound(schema: Any) -> None:
    """Bounds every text and list of a JSON schema, so that a reply ends before the token limit cuts it."""
    if isinstance(schema, dict):
        if schema.get("type") == "string" and not schema.keys() & {"enum", "const", "pattern", "format"}:
            schema |= {"minLength": 1, "maxLength": LONGEST_TEXT}
        elif schema.get("type") == "array":
            schema |= {"maxItems": LONGEST_LIST}
        for part in schema.values():
            bound(part)
    elif isinstance(schema, list):
        for part in schema:
            bound(part)
