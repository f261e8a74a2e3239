"""Small tables for notebooks, in the colours of the page that shows them."""

from collections.abc import Iterable
from html import escape

_CELL = "text-align:left;padding:.1em 1em .1em 0;vertical-align:top;white-space:pre-wrap;border:0;background:none"


def table(headline: str, lines: Iterable[tuple[str, str]]) -> str:
    """A headline and lines of a label and a value as HTML."""
    rows = "".join(
        f'<tr style="background:none"><td style="{_CELL};opacity:.7">{escape(label)}</td>'
        f'<td style="{_CELL};font-family:monospace">{escape(value)}</td></tr>'
        for label, value in lines
    )
    return f'<div><strong>{escape(headline)}</strong><table style="border:0;margin:.3em 0">{rows}</table></div>'


def text(headline: str, body: str) -> str:
    """A headline and text in columns as HTML."""
    style = "background:none;border:0;margin:.3em 0;overflow-x:auto"
    return f'<div><strong>{escape(headline)}</strong><pre style="{style}">{escape(body)}</pre></div>'
