"""The one writer of reports: a page that is one file, runs no script and asks for nothing.

    Page(title) --> .heading .paragraph .facts .table .chart .code .diff .columns --> .save(path)

Every text is escaped, and made safe first as for a terminal, so that a code sample cannot hide a bidirectional override. A
Content-Security-Policy in the page forbids scripts and requests, should an escape ever be forgotten. Charts are Vega-Lite
specifications (plain data), drawn to static SVG by vl-convert and shown as images, in which nothing can run either.

Left out: interaction, links to other pages, fonts. What needs them is no report.
"""

from __future__ import annotations

import base64
import difflib
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apprentice.core import files
from apprentice.core.text_safety import terminal_safe

CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_CHART_CONFIG = {
    "background": "white",
    "font": "sans-serif",
    # Texts are measured in one font here and shown in another there: a wider one needs the room.
    "padding": {"left": 28, "right": 28, "top": 8, "bottom": 8},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "grid": True, "gridOpacity": 0.4},
    "legend": {"labelFontSize": 12, "titleFontSize": 12},
}
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --new: #1a7f3733; --old: #cf222e33; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.3rem; margin-top: 2.2rem; } h3 { font-size: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th.number, td.number { text-align: right; }
pre { background: var(--soft); padding: .6rem .8rem; overflow-x: auto; font: 13px/1.45 ui-monospace, monospace; margin: .5rem 0; }
ins { background: var(--new); text-decoration: none; } del { background: var(--old); text-decoration: none; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; } figcaption { opacity: .75; font-size: .9rem; }
.columns { display: flex; flex-wrap: wrap; gap: 1rem; } .columns > div { flex: 1 1 20rem; min-width: 0; }
.columns h4 { margin: .3rem 0; font-size: .9rem; opacity: .75; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { opacity: .75; } dd { margin: 0; }
"""


class Page:
    """A report in the making; each method adds a part and returns the page."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[str] = [f"<h1>{_text(title)}</h1>"]

    def heading(self, text: str, level: int = 2) -> Page:
        """A heading of level 2 to 4."""
        if level not in (2, 3, 4):
            raise ValueError("the level of a heading is 2, 3 or 4")
        return self._add(f"<h{level}>{_text(text)}</h{level}>")

    def paragraph(self, text: str) -> Page:
        return self._add(f"<p>{_text(text)}</p>")

    def facts(self, facts: Mapping[str, object]) -> Page:
        """Names with their values, one a line."""
        pairs = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
        return self._add(f"<dl>{pairs}</dl>")

    def table(self, rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> Page:
        """Cells are shown as `str` has them; columns of numbers are set to the right."""
        numeric = [_is_numeric(column) for column in zip(*rows, strict=True)] if rows else []
        head = _row(header, numeric, "th") if header else ""
        body = "".join(_row(row, numeric, "td") for row in rows)
        return self._add(f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>')

    def chart(self, spec: Mapping[str, Any], *, caption: str) -> Page:
        """A Vega-Lite specification with its data in it. The caption is also what a screen reader says."""
        encoded = base64.b64encode(chart_svg(spec).encode()).decode()
        image = f'<img alt="{_text(caption)}" src="data:image/svg+xml;base64,{encoded}">'
        return self._add(f"<figure>{image}<figcaption>{_text(caption)}</figcaption></figure>")

    def code(self, text: str) -> Page:
        return self._add(_code(text))

    def diff(self, old: str, new: str) -> Page:
        """What became of a text, line by line."""
        lines = list(difflib.ndiff(old.split("\n"), new.split("\n"))) if old or new else []
        shown = [_diff_line(line) for line in lines if not line.startswith("?")]
        return self._add("<pre>" + "\n".join(shown) + "</pre>")

    def columns(self, texts: Mapping[str, str]) -> Page:
        """Pieces of code side by side, each under its title."""
        cells = "".join(f"<div><h4>{_text(title)}</h4>{_code(text)}</div>" for title, text in texts.items())
        return self._add(f'<div class="columns">{cells}</div>')

    def render(self) -> str:
        """The whole page."""
        head = (
            '<meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{_text(self._title)}</title><style>{_STYLE}</style>"
        )
        body = "\n".join(self._parts)
        return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'

    def save(self, path: Path) -> None:
        files.write_text(path, self.render())

    def _add(self, part: str) -> Page:
        self._parts.append(part)
        return self


def chart_svg(spec: Mapping[str, Any]) -> str:
    """A Vega-Lite specification as SVG. Data from files or addresses is refused: the data is in the specification."""
    import vl_convert

    safe = _safe_strings(dict(spec))
    if "url" in safe.get("data", {}):
        raise ValueError("a chart brings its data with it")
    return vl_convert.vegalite_to_svg(json.dumps(safe), config=_CHART_CONFIG, allowed_base_urls=[])


def _safe_strings(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_safe_strings(key): _safe_strings(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe_strings(part) for part in value]
    return terminal_safe(value) if isinstance(value, str) else value


def _text(value: object) -> str:
    return html.escape(terminal_safe(str(value)), quote=True)


def _code(text: str) -> str:
    return f"<pre>{_text(text)}</pre>"


def _diff_line(line: str) -> str:
    tag = {"+": "ins", "-": "del"}.get(line[0])
    return f"<{tag}>{_text(line)}</{tag}>" if tag else _text(line)


def _row(cells: Sequence[object], numeric: Sequence[bool], tag: str) -> str:
    classes = [' class="number"' if i < len(numeric) and numeric[i] else "" for i in range(len(cells))]
    return "<tr>" + "".join(f"<{tag}{c}>{_text(cell)}</{tag}>" for cell, c in zip(cells, classes, strict=True)) + "</tr>"


def _is_numeric(column: Sequence[object]) -> bool:
    """Numbers, also written with a sign, separators, unit of one character or as an interval in brackets."""
    shown = [str(cell).strip() for cell in column]
    return any(shown) and all(not text or text.strip("+-−").lstrip("[")[:1].isdigit() for text in shown)
