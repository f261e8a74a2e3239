"""Finds what is wrong with a reply that DSPy accepts: a refusal, no text, a reply cut off, or no completion at all."""

from collections.abc import Callable, Mapping
from typing import Any

from _tokio_asyncio_bridge import touched, warn
from _tokio_asyncio_bridge.reply import RESETS

Fault = tuple[str, str]
# A completion of any provider has one of these keys.
CONTENT = {"choices", "content", "candidates", "output", "message", "outputs"}
SHOWN = 200


def fault(reply: Any) -> Fault | None:
    """The class of a fault (`refused`, `empty`, `cut_off`, `lost_reply`) and a text; None for a reply that is whole.

    Takes DSPy's own responses, one or several, and LiteLLM's. Never raises.
    """
    try:
        return _fault(reply)
    except Exception:
        return None


def _fault(reply: Any) -> Fault | None:
    if isinstance(reply, (list, tuple)):
        reply = reply[-1] if reply else None
    raw = getattr(reply, "provider_data", None)
    if isinstance(raw, Mapping) and not raw.keys() & CONTENT:
        return "lost_reply", f"the server's reply is no completion: {_short(dict(_told(raw)))}"
    if hasattr(reply, "message"):
        text, refusal, tools = _of_parts(reply.message.parts)
        reason = _own_reason(raw) or reply.finish_reason
    else:
        text, refusal, tools, reason = _of_choices(reply.choices)
    if refusal or reason in ("content_filter", "refusal"):
        what = f"the model refused: {refusal}" if refusal else f"the reply was filtered{': ' if text else ''}{text}"
        return "refused", f"{_short(what)} (finish reason: {reason})"
    if reason == "length":
        return "cut_off", "the reply was cut off at max_tokens before it could be read (finish reason: length)"
    if not text.strip():
        calls = f", and calls `{tools[0]}`" if tools else ""
        return "empty", f"the reply has no text{calls} (finish reason: {reason})"
    return None


def _of_parts(parts: Any) -> tuple[str, str, list[str]]:
    of = {kind: [part for part in parts if part.type == kind] for kind in ("text", "refusal", "tool_call", "data")}
    text = "".join(part.text for part in of["text"]) or ("data" if of["data"] else "")
    return text, "".join(part.text for part in of["refusal"]), [part.name for part in of["tool_call"]]


def _of_choices(choices: Any) -> tuple[str, str, list[str], Any]:
    if not choices:
        return "", "", [], "none given"
    choice = choices[-1]
    message = choice.message
    more = getattr(message, "provider_specific_fields", None) or {}
    refusal = getattr(message, "refusal", None) or more.get("refusal") or ""
    tools = [call.function.name for call in getattr(message, "tool_calls", None) or ()]
    return message.content or "", refusal, tools, choice.finish_reason


def _own_reason(raw: Any) -> Any:
    """The finish reason in the server's own word, which DSPy translates."""
    choices = raw.get("choices") if isinstance(raw, Mapping) else None
    if choices == []:
        return "none given"
    return choices[-1].get("finish_reason") if choices and isinstance(choices[-1], Mapping) else None


def _told(raw: Mapping[str, Any]) -> Any:
    # DSPy adds notes of its own, whose names begin so.
    return ((name, value) for name, value in raw.items() if not name.startswith("lm15"))


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def judge_by_status() -> None:
    """Makes DSPy read the code of an error object, in a reply with status 200, as an HTTP status.

    By itself DSPy knows OpenAI's codes only, and takes `429` for a failing server.
    """
    from dspy._vendor.lm15.errors import map_http_error
    from dspy.lm15 import OpenAIChatLM, OpenAILM

    def judging(original: Callable[..., Any]) -> Callable[..., Any]:
        def response_error(self: Any, code: str, message: str) -> Any:
            if code.isdecimal() and 400 <= int(code) <= 599:
                text = message or f"error {code}"
                return map_http_error(int(code), text, provider=self.provider, provider_code=code)
            return original(self, code, message)

        return response_error

    for dialect in (OpenAILM, OpenAIChatLM):
        touched.change(dialect, "_response_error", judging(dialect._response_error))


def keep_limits() -> None:
    """Makes DSPy keep all headers that tell when a limit is lifted. By itself it drops those without a unit."""
    from dspy._vendor.lm15 import rate_limits

    kept = rate_limits.RATE_LIMIT_HEADERS | {name for pair in RESETS for name in pair}
    touched.change(rate_limits, "RATE_LIMIT_HEADERS", kept)


def say_less() -> None:
    """Drops the line that DSPy logs for each reply that was cut off. The run counts them and says so once."""
    touched.filtered("dspy.clients.lm", lambda record: "truncated" not in str(record.msg))


def prepare() -> None:
    """Does all of these, for as long as jobs are alive."""
    try:
        judge_by_status()
        keep_limits()
    except (ImportError, AttributeError) as error:
        # These are internal to DSPy, and may have another name in the next release.
        warn(f"this release of DSPy does not tell all that a server says of its errors and limits: {error!r}")
    say_less()
