import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import time

import pytest

from apprentice.core.progress import Progress, Silent, duration
from apprentice.core.protocols import ProgressSink


def test_plain_lines_name_stage_amount_and_time() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.stage("train", 400, "steps")
        progress.advance(120, "loss 1.23")
        progress.note("saved a checkpoint")
        progress.stage("eval")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train: 400 steps"
    assert lines[1] == "saved a checkpoint"
    assert re.fullmatch(r"train: 120 steps done in 0\.\ds, loss 1\.23", lines[2])
    assert lines[3] == "eval: begins"
    assert re.fullmatch(r"eval: done in 0\.\ds", lines[4])


def test_a_stage_that_does_not_advance_still_says_that_it_lives() -> None:
    stream = io.StringIO()
    with Progress(stream, first_gap_s=0.01) as progress:
        progress.stage("load")
        time.sleep(0.2)
        progress.stage("train", 10, "steps")
        progress.advance(5)
        time.sleep(0.2)
    lines = stream.getvalue().splitlines()
    assert any(re.fullmatch(r"load: 0\.\ds", line) for line in lines)
    assert any(re.fullmatch(r"train: 5/10 steps, 50%, eta 0\.\ds", line) for line in lines)


def test_hostile_details_and_narrow_encodings_do_no_harm() -> None:
    raw = io.BytesIO()
    with Progress(io.TextIOWrapper(raw, "ascii", write_through=True)) as progress:
        progress.stage("read")
        progress.advance(1, "\x1b[2Jevil\u202e")
        progress.note("Grüße\x1b]0;x\x07")
    assert b"\x1b" not in raw.getvalue()
    assert b"Gr\\xfc\\xdfe\n" in raw.getvalue()


DRAW = """
import time
from apprentice.core.progress import Progress
with Progress() as progress:
    progress.stage("train", 4, "steps")
    progress.advance(2, "[red]loss[/red] 1.2")
    progress.note("a [note]")
    time.sleep(0.3)
"""


def draw(environment: dict[str, str]) -> str:
    """What a terminal gets to see."""
    leader, follower = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    child = subprocess.Popen([sys.executable, "-c", DRAW], stderr=follower, env={**inherited, **environment})
    os.close(follower)
    seen = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(leader, 65536):
            seen += chunk
    os.close(leader)
    assert child.wait() == 0
    return seen.decode()


@pytest.mark.parametrize("no_color", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_gets_a_moving_line_and_its_colours_can_be_off(no_color: dict[str, str]) -> None:
    seen = draw({"TERM": "xterm-256color", "COLUMNS": "100", **no_color})
    assert "[red]loss[/red] 1.2" in seen
    assert "a [note]" in seen
    assert "train: 2 steps done" in seen
    assert bool(re.search(r"\x1b\[(?:\d+;)*3\d", seen)) == (not no_color)


def test_a_dumb_terminal_gets_plain_lines() -> None:
    assert "\x1b" not in draw({"TERM": "dumb"})


def test_silence_is_a_sink_too() -> None:
    sinks: list[ProgressSink] = [Silent(), Progress(io.StringIO())]
    for sink in sinks:
        sink.stage("x", 1)
        sink.advance()
        sink.note("y")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (75, "1m15s"), (3599.7, "1h00m"), (7260, "2h01m")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
