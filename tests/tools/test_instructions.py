"""The benchmark that counts instructions: what it reads in callgrind's files, and that a real process is counted."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from benchmarks import instructions

CHECKSUMS = """
import json, sys, zlib
for line in sys.stdin:
    zlib.crc32(bytes(json.loads(line).get("bytes", 0)))
    print("{}", flush=True)
"""


def test_own_instructions_of_the_engine_are_counted_by_function() -> None:
    lines = """# callgrind format
events: Ir
ob=(1) /usr/lib/libpython3.11.so.1.0
fl=(1) ???
fn=(1) _PyEval_EvalFrameDefault
0 900
cob=(2) /home/x/libapprentice.so
cfn=(2) apprentice::(anonymous namespace)::step(long, float*)
calls=3 0
0 700
+2 50

ob=(2)
fn=(2)
0 300
+1 20
cfn=(3) apprentice::norm(float)
calls=6 0
* 380
fn=(3)
* 380
ob=(3) /usr/lib/python3.11/lib-dynload/_json.cpython-311-x86_64-linux-gnu.so
fn=(4) scan_once
0 1000
totals: 2650
""".splitlines()
    assert instructions.read_counts(lines) == {"apprentice::step": 320, "apprentice::norm": 380}


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_process_is_counted_between_its_answers_and_the_same_each_time(tmp_path: Path) -> None:
    arm = instructions.Counted([sys.executable, "-S", "-c", CHECKSUMS], tmp_path)
    arm.open()
    some, more, again = [arm.counts({"bytes": size}) for size in (1 << 16, 1 << 20, 1 << 16)]
    arm.close()
    (function, count), *_ = more.most_common(1)
    assert count > 1 << 18
    assert more[function] == pytest.approx(16 * some[function], rel=0.01)
    assert some[function] == again[function]
