from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from apprentice.core import waiting
from apprentice.core.errors import InputError

HOLD = """
import sys
from pathlib import Path
from apprentice.core import files
with files.lock(Path(sys.argv[-1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_had_once_its_holder_has_ended_and_who_that_is_was_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert isinstance(other.stdout, io.TextIOBase)
        assert other.stdout.readline() == "held\n"

        def end(said: str) -> None:
            told.append(said)
            other.kill()

        with waiting.lock(tmp_path, end):
            assert [f"(process {other.pid}" in said for said in told] == [True]


def test_a_free_lock_is_not_waited_for_and_an_error_behind_it_is_no_reason_to_wait(tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(InputError, match="of the work"), waiting.lock(tmp_path, told.append):
        raise InputError("of the work")
    assert told == []
