"""Measures what one call of a DSPy predictor uses: tokens, requests, cost, and how its last reply ended."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import dspy
from _tokio_asyncio_bridge import dspy_replies, touched
from _tokio_asyncio_bridge.failure import FAULT
from _tokio_asyncio_bridge.reply import request_id
from _tokio_asyncio_bridge.results import Told
from dspy.clients import base_lm
from dspy.utils.usage_tracker import UsageTracker

# By default DSPy keeps the last 10,000 requests with their messages; the memory of a job must not grow with its rows.
HISTORY = 100
# The attribute that carries a call's Usage on an exception.
MARK = "_bridge_usage"


def prepare() -> None:
    """Has DSPy keep a short history, for as long as jobs are alive."""
    touched.change(base_lm, "MAX_HISTORY_SIZE", HISTORY)


class Usage(NamedTuple):
    """What the requests of one call used, failed ones included; `cost_usd` is None where a price is unknown."""

    input_tokens: int
    output_tokens: int
    calls: int
    cost_usd: float | None
    # Why the model ended its last reply.
    finish_reason: str | None
    # The server's own name of the last request.
    request_id: str | None


@contextlib.contextmanager
def metered(lm: dspy.LM | None, adapter: dspy.Adapter, keep_history: bool = True) -> Iterator["Meter"]:
    """Gives one call DSPy settings of its own, which other tasks do not see.

    An exception that leaves the call is marked with the call's usage, and with what was wrong with the last reply: the
    exception may come from whoever read it.

    With `keep_history` the call gets a copy of the LM, so that code which reads the history finds only its requests.
    """
    meter = Meter()
    chosen = lm or dspy.settings.lm
    with dspy.context(
        lm=chosen.copy() if chosen and keep_history else chosen,
        adapter=adapter,
        usage_tracker=meter,
        caller_modules=[meter],
        max_history_size=HISTORY,
        disable_history=not keep_history or dspy.settings.disable_history,
    ):
        try:
            yield meter
        except BaseException as exc:
            with contextlib.suppress(Exception):
                setattr(exc, MARK, meter.total())
                setattr(exc, FAULT, meter.fault)
            raise


class EmptyPrediction(Exception):
    """The model's reply held nothing to predict from."""


class Meter(UsageTracker):
    """Adds up a call's requests.

    DSPy reports usage to a tracker, but prices only to an engine or to the history.
    """

    def __init__(self) -> None:
        super().__init__()
        self.costs: list[float] = []
        self.finish_reason: str | None = None
        self.request_id: str | None = None
        self.fault: dspy_replies.Fault | None = None
        self.history = History(self)

    def note(self, cost: float | None, finish_reason: str | None, fault: dspy_replies.Fault | None) -> None:
        """Takes in one response: its cost in US dollars if known, why it ended, and what is wrong with it."""
        self.fault = fault
        if cost is not None:
            self.costs.append(cost)
        self.finish_reason = finish_reason

    def mark(self, result: Any) -> Any:
        """Puts the call's usage beside its result. A result that must still be awaited is returned as it is.

        Of a reply without choices that came through LiteLLM, DSPy makes a prediction without fields; that is a failure.
        """
        if self.fault and isinstance(result, dspy.Prediction) and not result.keys():
            raise EmptyPrediction(self.fault[1])
        return result if inspect.isawaitable(result) else Told(result, self.total())

    def total(self) -> Usage | None:
        """The sum over all requests; None if there was none."""
        requests = [entry for entries in self.usage_data.values() for entry in entries]
        if not requests:
            return None
        return Usage(
            sum(entry.get("prompt_tokens") or 0 for entry in requests),
            sum(entry.get("completion_tokens") or 0 for entry in requests),
            len(requests),
            sum(self.costs) if len(self.costs) == len(requests) else None,
            self.finish_reason,
            self.request_id,
        )


class History:
    """Stands in for DSPy's history: it keeps nothing, is never full, and reports each response to the meter."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def __len__(self) -> int:
        return 0

    def append(self, entry: dict[str, Any]) -> None:
        cost, reason = entry["cost"], finish_reason(entry["response"])
        self.meter.request_id = request_id(entry["response"])
        self.meter.fault = fault = dspy_replies.fault(entry["response"])
        # An engine of ours has reported the reason already, and its entries have no cost.
        if cost is not None or reason != self.meter.finish_reason:
            # An answer from DSPy's cache has a price but no usage: it was paid for earlier.
            self.meter.note(cost if entry["usage"] else None, reason, fault)


def finish_reason(response: Any) -> str | None:
    """The finish reason of the last candidate, in DSPy's own responses and in LiteLLM's."""
    last = (response if isinstance(response, (list, tuple)) else getattr(response, "choices", None) or [None])[-1]
    reason = getattr(last, "finish_reason", None)
    return reason if isinstance(reason, str) else None
