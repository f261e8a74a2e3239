"""Prints what `model install` must know of a Python before it installs something, as one JSON object.

Its arguments are the requirements, such as `name==1.2`.
"""

import importlib.metadata
import importlib.util
import json
import os
import sys
import sysconfig


def is_installed(requirement: str) -> bool:
    name, _, version = requirement.partition("==")
    try:
        return importlib.metadata.version(name) == version
    except importlib.metadata.PackageNotFoundError:
        return False


def is_writable(directory: str) -> bool:
    """Whether files can be made in a directory, or in the one where it would be made."""
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    return os.access(directory, os.W_OK)


packages = sysconfig.get_path("platlib")
# A virtual environment is its user's, whoever manages the Python that it was made of (PEP 668).
is_virtual = sys.prefix != sys.base_prefix
is_managed = not is_virtual and os.path.exists(f"{sysconfig.get_path('stdlib')}/EXTERNALLY-MANAGED")
found = {
    "executable": sys.executable,
    "packages": packages,
    "is_installed": all(map(is_installed, sys.argv[1:])),
    "obstacle": "managed" if is_managed else None if is_writable(packages) else "read_only",
    "has_pip": importlib.util.find_spec("pip") is not None,
}
print(json.dumps(found))
