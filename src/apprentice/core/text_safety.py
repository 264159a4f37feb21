"""Text from outside (file names, code, model output, commit authors) made harmless for a terminal or a page.

Whole escape sequences vanish; any other character that moves the cursor, changes direction or shows nothing is replaced by
its escape, `\\x1b` or `\\u202e`, so that a reader sees that it was there. Line breaks and tabs stay. Joiners stay too: scripts
and emoji need them. HTML is escaped by `core.html`, not here.
"""

from __future__ import annotations

import re

_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, erasing
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)"  # OSC: titles, links, clipboard
    r"|\x1b[PX^_][^\x1b\n]*\x1b\\"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-OQ-WYZ`-~]"  # character sets, resets
)
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls (not tab, line break)
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks and overrides
    "\u00ad\u180e\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"  # invisible
    "\ud800-\udfff"  # lone surrogates
    "\U000e0000-\U000e007f]"  # tags, which hide text in text
)


def terminal_safe(text: str, *, single_line: bool = False) -> str:
    """The text without escape sequences, other unsafe characters shown as escapes. `single_line` also for line breaks and
    tabs: for names inside a sentence or table."""
    text = _UNSAFE.sub(_escape, _SEQUENCE.sub("", text.replace("\r\n", "\n")))
    return text.replace("\n", "\\n").replace("\t", "\\t") if single_line else text


def shorten(text: str, width: int) -> str:
    """The text made safe, on one line and at most `width` characters."""
    # Cut first: a line of 200 MB need not be searched to show its beginning.
    safe = terminal_safe(text[: 4 * width + 4], single_line=True)
    return safe if len(safe) <= width else safe[: max(0, width - 3)] + "..."


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
