"""Tells what a DSPy module says to its model beside a row: signatures, instructions and demos, as text.

The text is the same in every process that loads the same program: whatever has no order of its own is sorted, and
addresses of objects are left out.
"""

import json
import re
import sys
from collections.abc import Iterable
from typing import Any, get_args

import dspy
from _tokio_asyncio_bridge import results, typed
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

Parts = tuple[str, str, str]

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# A set, as `repr` writes it; a `Literal`, whose values often come from a set; a default in a JSON schema, as DSPy shows
# them of a tool's arguments.
_UNORDERED = re.compile(r"(\{|\bLiteral\[|'default': \[)([^{}\[\]:]+)([}\]])")


def prompts(module: dspy.Module) -> list[tuple[str, Parts]]:
    """The name of each predictor within the module, with its signature, its instructions and its demos."""
    found = {id(part): (name, part) for name, part in module.named_predictors()}
    # Optimizers pass over what is within a compiled program, but its predictors ask all the same.
    for name, part in module.named_sub_modules(dspy.Predict):
        found.setdefault(id(part), (name.removeprefix("self."), part))
    return [(name, _parts(part)) for name, part in found.values()]


def _parts(predictor: dspy.Predict) -> Parts:
    signature = predictor.signature
    return _steady(_fields(signature)), _steady(signature.instructions), _steady(_demos(predictor.demos))


def _fields(signature: type[dspy.Signature]) -> str:
    """`question: str -> answer: str`, then a line for each thing that a field says beside its type."""

    def names(fields: dict[str, FieldInfo]) -> str:
        return ", ".join(f"{name}: {typed.display(field.annotation)}" for name, field in fields.items())

    lines = [f"{names(signature.input_fields)} -> {names(signature.output_fields)}"]
    for name, field in signature.fields.items():
        extra = field.json_schema_extra or {}
        described = extra.get("desc")
        if described and described != f"${{{name}}}":  # DSPy's own placeholder.
            lines.append(f"{name}: {described}")
        if extra.get("constraints"):
            lines.append(f"{name}: {extra['constraints']}")
        if not field.is_required():
            lines.append(f"{name} = {_json(field.get_default())}")
        if any(_is_own(kind) for kind in _classes(field.annotation)):
            lines.append(f"{name}: {_schema(field.annotation)}")
    return "\n".join(lines)


def _classes(annotation: Any) -> Iterable[type]:
    """The classes that an annotation is made of."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    inner = get_args(annotation)
    for part in inner[:1] if hasattr(annotation, "__metadata__") else inner:
        yield from _classes(part)


def _is_own(kind: type) -> bool:
    """Whether a class is neither Python's nor DSPy's, so that its fields may change while its name stays."""
    return kind.__module__.partition(".")[0] not in (sys.stdlib_module_names | {"builtins", "dspy"})


def _schema(annotation: Any) -> str:
    """The JSON schema, which the model is shown; the annotation itself where it has none."""
    try:
        schema = TypeAdapter(annotation).json_schema()
    except Exception:
        return repr(annotation)
    return json.dumps(_sorted_sets(schema), ensure_ascii=False)


def _sorted_sets(schema: Any) -> Any:
    """The schema with the defaults of its sets in one order: pydantic writes them as lists."""
    if isinstance(schema, list):
        return [_sorted_sets(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _sorted_sets(part) for name, part in schema.items()}
    if made.get("uniqueItems") and isinstance(made.get("default"), list):
        made["default"] = sorted(made["default"], key=_json)
    return made


def _demos(demos: list[Any]) -> str:
    """How many there are, then each on a line of its own, as JSON."""
    number = f"{len(demos)} demo{'' if len(demos) == 1 else 's'}"
    return "\n".join([number, *(_json(dict(demo.items())) for demo in demos)])


def _json(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError):  # Keys that cannot be sorted; a value that holds itself.
        return results.represent(value)


def _plain(value: Any) -> Any:
    try:
        return results.plain(value)
    except Exception:
        return results.represent(value)


def _steady(text: str) -> str:
    """The text without what differs from one process to the next."""

    def ordered(found: re.Match[str]) -> str:
        opening, members, closing = found.groups()
        return opening + ", ".join(sorted(members.split(", "))) + closing

    return results.escaped(_UNORDERED.sub(ordered, _ADDRESS.sub("", text)))
