"""Which commands run tests, and what their output says."""

from __future__ import annotations

import time

import pytest

from apprentice.sessions.testing import is_test, run_counts


@pytest.mark.parametrize(
    "command",
    [
        "pytest -q", "cd x && python -m pytest tests", "PYTHONPATH=src .venv/bin/python -m unittest", "uv run pytest", "go test ./...",
        "cargo test --all", "cargo +nightly test", "npm run test -- --watch=false", "npx jest", "timeout 60 make test", "./gradlew :app:test",
        "(cd build; ctest)", "bundle exec rspec", "sudo tox", "dotnet test",
    ],
)  # fmt: skip
def test_commands_that_run_tests(command: str) -> None:
    assert is_test(command)


@pytest.mark.parametrize(
    "command",
    ["git commit -m 'make pytest faster'", "grep -rn pytest .", "cat logs/pytest.log", "pip install pytest", "ls tests", "pytester", "echo jest"],
)
def test_commands_that_only_name_them(command: str) -> None:
    assert not is_test(command)


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        ("===== 3 failed, 12 passed, 1 error in 2s =====", (12, 4)),
        ("....\n4 passed in 0.10s\n", (4, 0)),
        ("12 passed in 1.2s\nFound 2 errors.\n", (12, 0)),
        ("test result: ok. 25 passed; 0 failed; 0 ignored\n\ntest result: FAILED. 3 passed; 2 failed; 0 ignored\n", (28, 2)),
        ("Test Suites: 1 failed, 1 passed, 2 total\nTests:       1 failed, 5 passed, 6 total\nSnapshots:   2 passed, 2 total\n", (5, 1)),
        (" Test Files  1 passed (1)\n      Tests  7 passed (7)\n", (7, 0)),
        ("Tests run: 12, Failures: 1, Errors: 1, Skipped: 2\n", (8, 2)),
        ("Tests: 12, Assertions: 30, Failures: 1.\n", (11, 1)),
        ("OK (12 tests, 30 assertions)\n", (12, 0)),
        ("ok 1 - a\nnot ok 2 - b\n", (1, 1)),
        ("67% tests passed, 1 tests failed out of 3\n", (2, 1)),
        ("  5 passing (20ms)\n  2 failing\n", (5, 2)),
        ("Ran 12 tests in 0.1s\n\nFAILED (failures=1, errors=2, skipped=1)\n", (8, 3)),
        ("Ran 3 tests in 0.1s\n\nOK\n", (3, 0)),
        ("10 examples, 2 failures\n", (8, 2)),
        ("Passed! - Failed: 0, Passed: 9, Skipped: 0\n", (9, 0)),
        ("--- PASS: TestA (0.00s)\n    --- FAIL: TestB/x (0.00s)\nFAIL\tpkg/b\t0.1s\n", (1, 1)),
        ("ok  \tgithub.com/a/b\t0.1s\nFAIL\tgithub.com/a/c\t0.2s\n", (1, 1)),
        ("      Tests  1 failed | 5 passed (6)\n", (5, 1)),
        ("Ran 3 tests in 0.1s\n\nOK\nRan 2 tests in 0.1s\n\nFAILED (failures=1)\n", (4, 1)),
        ("Ran 3 tests in 0.1s\n\nFAILED (unexpected successes=1)\n", (2, 1)),
        ("10 examples, 2 failures, 3 pending\n", (5, 2)),
        ("Tests: 12, Assertions: 30, Failures: 1, Skipped: 2.\n", (9, 1)),
        ("Tests: 12, Assertions: 30, Errors: 1, Failures: 1, Warnings: 1, Skipped: 2.\n", (8, 2)),
        ("ok 1 - a # SKIP no network\nok 2 - b\nnot ok 3 - c # TODO later\n", (1, 0)),
        ("2 failed, 3 passed in 1.0s\ntook 7 passed checks in 3 places\n", (3, 2)),
        ("= 1 failed, 2 passed, 3 warnings in 61.20s (0:01:01) =\n", (2, 1)),
        ("no tests ran\n", None),
        ("", None),
    ],
)
def test_what_the_output_says(output: str, counts: tuple[int, int] | None) -> None:
    assert run_counts(output) == counts


@pytest.mark.parametrize("piece", ["\n", "--- PASS\n", "1 passed, ", "Tests: ", "a=b ", "x/", "ok ", " 1 failed"])
def test_hostile_output_takes_no_time(piece: str) -> None:
    start = time.process_time()
    run_counts(piece * 40_000)
    is_test(piece * 40_000)
    assert time.process_time() - start < 5
