import json
import os
import threading
from pathlib import Path

from apprentice.core import machine


def test_the_facts_are_plain_plausible_and_name_nobody() -> None:
    facts = json.loads(json.dumps(machine.facts()))
    assert facts["machine"]["cores"] >= 1
    assert 0 < facts["machine"]["memory_available_gib"] <= facts["machine"]["memory_gib"]
    assert set(facts["machine"]["flags"]) <= set(machine.TELLING_FLAGS)
    assert facts["versions"]["python"].startswith("3.")
    assert str(Path.home()) not in json.dumps(facts)


def test_peak_memory_grows_with_what_is_held() -> None:
    before = machine.peak_memory_gib()
    held = bytearray(300 << 20)
    held[::4096] = b"x" * len(held[::4096])
    assert machine.peak_memory_gib() >= min(before, before + 0.01)
    assert machine.peak_memory_gib() > 0.25


def test_free_space_is_known_for_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert machine.free_disk_gib(tmp_path / "not" / "yet") > 0


def test_a_container_has_what_it_may_use(tmp_path: Path) -> None:
    assert (machine.cpu_quota(tmp_path), machine.memory_limits(tmp_path)) == (None, None)
    for name, text in (("cpu.max", "max 100000\n"), ("memory.max", "max\n"), ("memory.current", "3000\n")):
        (tmp_path / name).write_text(text)
    assert (machine.cpu_quota(tmp_path), machine.memory_limits(tmp_path)) == (None, None)
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("4000\n")
    assert (machine.cpu_quota(tmp_path), machine.memory_limits(tmp_path)) == (1.5, (4000, 1000))
    # Files that the kernel keeps at hand are no reason to refuse a model.
    (tmp_path / "memory.stat").write_text("anon 500\nfile 2500\nactive_file 1000\ninactive_file 1400\nslab_reclaimable 100\n")
    assert machine.memory_limits(tmp_path) == (4000, 3500)


def test_how_busy_a_machine_is_is_seen_in_a_moment(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    assert machine.busy_cores(stat) is None
    stat.write_text("cpu  words\n")
    assert machine.busy_cores(stat) is None
    stat.write_text("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 ...\n")
    # No time has passed.
    assert machine.busy_cores(stat, over_s=0.0) is None
    later = threading.Timer(0.1, lambda: stat.write_text("cpu  60 0 10 130 0 0 0 0 0 0\n"))
    later.start()
    found = machine.busy_cores(stat, over_s=0.5)
    assert found is not None
    assert found == 0.5 * (os.cpu_count() or 1)
