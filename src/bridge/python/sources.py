"""Lists the source files that a predictor was loaded from."""

import os
import sys
import types

from _tokio_asyncio_bridge import brought, traces


def loaded(source: str | None) -> list[tuple[str, str]]:
    """The name and path of `source`, the predictor's own file, and of each module of the user's own imported so far.

    A module is the user's own if it belongs neither to the standard library nor to an installed package.
    """
    files = {os.path.abspath(file) for file in _imported() if traces.is_own(file)}
    if source is not None:
        files.add(os.path.abspath(source))
    return sorted((_named(file), file) for file in files)


def _imported() -> list[str]:
    """The files of all imported modules but other jobs'.

    No attribute is asked for: that would import a module that is lazy.
    """
    others = brought.of_others()
    imported = (module for name, module in list(sys.modules.items()) if name not in others)
    modules = [module for module in imported if isinstance(module, types.ModuleType)]
    files = (object.__getattribute__(module, "__dict__").get("__file__") for module in modules)
    return [file for file in files if isinstance(file, str)]


def _named(file: str) -> str:
    # The name of a file may hold bytes that are no text.
    return file.encode("utf-8", "backslashreplace").decode("utf-8")
