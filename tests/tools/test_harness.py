"""When a figure no longer holds."""

import json
from pathlib import Path

import pytest
from benchmarks import harness

from apprentice.kernels import native

CODE = '"""Says what it does."""\n\nTIMES = 2\n\n\ndef f(x):\n    """Doubles."""\n    return TIMES * x\n'


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("Doubles.", "Gives twice as much.", True),
        ("    return", "    # twice\n    return", True),
        ("\n\n\ndef", "\n\n\n\n\ndef", True),
        ("TIMES = 2", "TIMES = 3", False),
        ("TIMES * x", 'TIMES * x or "Doubles."', False),
    ],
)
def test_code_is_the_same_whatever_is_said_about_it(tmp_path: Path, old: str, new: str, same: bool) -> None:
    path = tmp_path / "module.py"
    path.write_text(CODE)
    before = harness.code_hash(path)
    path.write_text(CODE.replace(old, new))
    assert (harness.code_hash(path) == before) == same


def test_native_code_counts_as_a_whole_and_without_what_is_said_about_it(tmp_path: Path) -> None:
    (tmp_path / "a.cpp").write_text("// Doubles.\nint f(int x) { return 2 * x; }\n")
    before = harness.code_hash(tmp_path)
    (tmp_path / "a.cpp").write_text("// Twice as much.\n\nint f(int x) { return 2 * x; }  // so\n")
    assert harness.code_hash(tmp_path) == before
    (tmp_path / "b.h").write_text("int g();\n")
    assert harness.code_hash(tmp_path) != before


def test_native_code_of_another_processor_does_not_count(tmp_path: Path) -> None:
    names = ("pool.cpp", "products_avx2.cpp", "products_avx512.cpp")
    for name in names:
        (tmp_path / name).write_text("int x;\n")
    before = harness.code_hash(tmp_path, "avx512")
    changes = []
    for name in names:
        (tmp_path / name).write_text("int y;\n")
        changes.append(harness.code_hash(tmp_path, "avx512") != before)
        (tmp_path / name).write_text("int x;\n")
    assert changes == [True, False, True]
    key = f"{harness.NATIVE}:avx2"
    assert harness.changed_sources({"sources": {key: "another"}}) == [key]
    assert not harness.changed_sources({"sources": {key: harness.code_hash(harness.ROOT / harness.NATIVE, "avx2")}})


def test_how_results_are_kept_matters_only_where_that_is_timed() -> None:
    sources = dict.fromkeys(harness.STORAGE, "another")
    assert not harness.changed_sources({"benchmark": "decoding", "sources": sources})
    assert harness.changed_sources({"benchmark": "ingest", "sources": sources}) == list(harness.STORAGE)


def test_results_of_chosen_operators_stand_beside_the_others(tmp_path: Path) -> None:
    assert harness.SWITCH == native.SWITCH
    work, results = tmp_path / "work", tmp_path / "results"
    harness.Benchmark("sample", results=results, work=work, variant="").cell("one", lambda: ([], {}))
    chosen = harness.Benchmark("sample", results=results, work=work, variant="avx2")
    for name, kept in (("one", "one-avx2"), ("kernels-avx2-one", "kernels-avx2-one")):
        assert chosen.cell(name, lambda: ([], {}))["cell"] == kept
        assert chosen.result(name)["cell"] == kept
    assert {path.stem for path in chosen.folder.iterdir()} == {"one", "one-avx2", "kernels-avx2-one"}


def test_a_cell_runs_again_only_where_its_code_changed(tmp_path: Path) -> None:
    results = tmp_path / "results"
    benchmark, calls = harness.Benchmark("sample", results=results, work=tmp_path / "work", variant=""), []

    def work() -> tuple[list[harness.Row], dict[str, int]]:
        calls.append(1)
        return [harness.Row("base", "bits", 1.0)], {"places": 3}

    for _ in range(2):
        result = benchmark.cell("one", work, seed=1)
    assert (len(calls), result["rows"][0]["value"], result["details"]) == (1, 1.0, {"places": 3})
    assert result["sources"]
    assert harness.stale(results) == []
    path = results / "sample" / "one.json"
    name = next(name for name in result["sources"] if name not in harness.STORAGE)
    path.write_text(json.dumps({**result, "sources": {**result["sources"], name: "another"}}))
    assert harness.stale(results) == [("sample/one.json", [name])]
    benchmark.cell("one", work, seed=1)
    assert len(calls) == 2


def test_what_another_process_runs_counts_too(tmp_path: Path) -> None:
    benchmark = harness.Benchmark("sample", results=tmp_path / "results", work=tmp_path / "work", variant="")
    sources = benchmark.cell("one", lambda: ([], {}), runs=("apprentice.serve.app", "apprentice.kernels.native"))["sources"]
    assert {"src/apprentice/serve/app.py", "src/apprentice/serve/jobs.py", "src/apprentice/core/errors.py"} <= set(sources)
    assert any(name.startswith(f"{harness.NATIVE}:") for name in sources)
    assert harness.stale(tmp_path / "results") == []
