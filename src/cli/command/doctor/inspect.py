"""Prints what an interpreter has of the things that a run needs.

`doctor` runs it in a child process, with any Python from 3.8 on, for it must also work where things are broken. Its
arguments are the URL of an API and the name of a model to ask LiteLLM about; either may be empty. A key for the API is
in the environment variable `DOCTOR_KEY`. It prints one JSON object. A package is its version, or the reason why it
cannot be imported, or null where it is absent.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

PATIENCE_S = 10
# Bytes, more than any list of models takes.
LONGEST = 16_000_000


def package(name: str) -> dict[str, str] | None:
    """The package's version, or what importing it raises."""
    if importlib.util.find_spec(name) is None:
        return None
    try:
        importlib.import_module(name)
        return {"version": importlib.metadata.version(name)}
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: the key is for the host that was named."""

    def redirect_request(self, *_: Any) -> None:
        return None


def models(url: str, key: str) -> dict[str, Any]:
    """GETs the list of models, which costs nothing: the status and the time it took, or the error."""
    begun = time.monotonic()
    try:
        request = urllib.request.Request(url.rstrip("/") + "/models")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        with urllib.request.build_opener(Stay).open(request, timeout=PATIENCE_S) as response:
            status, names = response.status, listed(response.read(LONGEST))
    except urllib.error.HTTPError as error:
        status, names = error.code, None
    except Exception as error:
        return {"error": str(getattr(error, "reason", error))}
    return {"status": status, "seconds": time.monotonic() - begun, "names": names}


def listed(body: bytes) -> list[str] | None:
    """The models' names; None where the body is no such list."""
    try:
        return [str(model["id"]) for model in json.loads(body)["data"]]
    except (ValueError, LookupError, TypeError):
        return None


def missing_keys(model: str) -> list[str] | None:
    """The variables that LiteLLM would look for and that are not set; None where it does not know the provider."""
    try:
        import litellm

        litellm.suppress_debug_info = True
        if model.partition("/")[0] not in litellm.provider_list:
            litellm.get_llm_provider(model)
        return litellm.validate_environment(model)["missing_keys"]
    except Exception:
        return None


def main(url: str, model: str) -> None:
    # DSPy and LiteLLM would otherwise download their price table.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    # Standard output is for the JSON object, whatever a library prints while it is imported.
    out, sys.stdout = sys.stdout, sys.stderr
    found = {
        "prefix": sys.prefix,
        "is_virtual": sys.prefix != sys.base_prefix,
        "has_program": importlib.util.find_spec("tokio_asyncio_bridge") is not None,
        "dspy": package("dspy"),
        "uvloop": package("uvloop"),
        "models": models(url, os.environ.get("DOCTOR_KEY", "")) if url else None,
        "missing_keys": missing_keys(model) if model else None,
    }
    print(json.dumps(found), file=out, flush=True)


main(*sys.argv[1:])
