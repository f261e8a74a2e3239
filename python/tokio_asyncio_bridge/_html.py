"""Small tables for notebooks, in the colours of the page that shows them."""

from html import escape

_CELL = "text-align:left;padding:.1em 1em .1em 0;vertical-align:top;white-space:pre-wrap;border:0;background:none"


def table(headline: str, lines: str) -> str:
    """A headline and lines such as `  Label     value` as HTML. A line without a label belongs to the one before."""
    rows: list[tuple[str, str]] = []
    for line in lines.splitlines():
        label, value = line[:17].strip(), line[17:]
        if not label and rows:
            rows[-1] = (rows[-1][0], f"{rows[-1][1]}\n{value}")
        else:
            rows.append((label, value))
    cells = "".join(
        f'<tr style="background:none"><td style="{_CELL};opacity:.7">{escape(label)}</td>'
        f'<td style="{_CELL};font-family:monospace">{escape(value)}</td></tr>'
        for label, value in rows
    )
    return f'<div><strong>{escape(headline)}</strong><table style="border:0;margin:.3em 0">{cells}</table></div>'
