from collections.abc import Sequence
from typing import NoReturn

def main(arguments: Sequence[str]) -> NoReturn: ...
