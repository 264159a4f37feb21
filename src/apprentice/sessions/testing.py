"""Was a command a test run, and how many tests passed? As far as the output says so in one of the forms known here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_RUNNERS = (
    r"py\.?test", "unittest", "tox", "nox", "go test", r"cargo (?:\+\S{1,30} )?(?:nextest run|test)", r"(?:npm|pnpm|yarn|bun)(?: run)? test", "jest",
    "vitest", "mocha", "rspec", "phpunit", "ctest", "dotnet test", "make (?:check|test)", "swift test", "mix test",
    r"(?:mvn|\./mvnw|gradle|\./gradlew)\b[^|;&\n]{0,60}\btest",
)  # fmt: skip
_BEFORE = (
    r"(?:\w{1,60}=\S{0,200} +)*(?:(?:sudo|time|nice|npx|uv run|poetry run|pipenv run|bundle exec|timeout \S{1,10}|python[0-9.]{0,4} -m"
    r"|\S{0,200}/python[0-9.]{0,4} -m) +)*(?:\S{1,200}/)?"
)
_COMMAND = re.compile(rf"(?:{'|'.join(_RUNNERS)})\b|(?:python[0-9.]{{0,4}}|\S{{0,200}}/python[0-9.]{{0,4}}) -m (?:unittest|pytest)\b")
_PREFIX = re.compile(_BEFORE)
_SEPARATOR = re.compile(r"&&|\|\||[;|\n(]")


def is_test(command: str) -> bool:
    """Whether one of the commands of a line runs tests: what is only named in it (`grep pytest`) does not."""
    for part in _SEPARATOR.split(command[:20_000]):
        text = part.strip()
        if _COMMAND.match(text):
            return True
        start = _PREFIX.match(text)
        if start is not None and start.end() and _COMMAND.match(text, start.end()):
            return True
    return False


def run_counts(output: str) -> tuple[int, int] | None:
    """(passed, failed), where the output says so; skipped tests are neither."""
    lines = output[-200_000:].split("\n")
    return next((counts for form in _FORMS if (counts := form(lines)) is not None), None)


_NUMBER = r"(\d{1,7})"
_PYTEST_SUMMARY = re.compile(rf"(?:{_NUMBER} [a-z]{{3,12}}, ){{0,9}}{_NUMBER} [a-z]{{3,12}} in \d[\d.]{{0,12}}s\b")
_PYTEST_PART = re.compile(rf"{_NUMBER} (passed|failed|errors?)\b")


def _pytest(lines: Sequence[str]) -> tuple[int, int] | None:
    """`== 1 failed, 2 passed, 1 error in 0.1s ==`, with or without bars."""
    for line in reversed(lines):
        text = line.strip("= \r")
        # The summary itself, not a line that ends like one.
        if not _PYTEST_SUMMARY.match(text[:300]) or not _PYTEST_PART.search(text[:200]):
            continue
        parts = {kind.rstrip("s"): int(number) for number, kind in _PYTEST_PART.findall(text[:200])}
        return parts.get("passed", 0), parts.get("failed", 0) + parts.get("error", 0)
    return None


def _summed(form: str, failed_form: str | None = None) -> Callable[[Sequence[str]], tuple[int, int] | None]:
    """Of every line in this form, whose groups `passed`, `failed`, `total`, `skipped` are numbers."""
    pattern = re.compile(form)
    other = re.compile(failed_form) if failed_form else None

    def read(lines: Sequence[str]) -> tuple[int, int] | None:
        passed = failed = 0
        seen = False
        for line in lines:
            found = pattern.search(line[:400])
            if found is not None:
                groups = {name: int(value) for name, value in found.groupdict().items() if value}
                bad = groups.get("failed", 0) + groups.get("errors", 0)
                good = groups.get("passed", groups.get("total", 0) - bad - groups.get("skipped", 0) if "total" in groups else 0)
                passed, failed, seen = passed + max(good, 0), failed + bad, True
            elif other is not None and seen and (more := other.search(line[:400])):
                failed += int(more[1])
        return (passed, failed) if seen else None

    return read


def _counted(passed: str, failed: str) -> Callable[[Sequence[str]], tuple[int, int] | None]:
    """A line a test."""
    good, bad = re.compile(passed), re.compile(failed)

    def read(lines: Sequence[str]) -> tuple[int, int] | None:
        counts = sum(bool(good.match(line)) for line in lines), sum(bool(bad.match(line)) for line in lines)
        return counts if any(counts) else None

    return read


def _unittest(lines: Sequence[str]) -> tuple[int, int] | None:
    """`Ran 12 tests in 0.1s`, then `OK` or `FAILED (failures=1, errors=2)`; of several runs the sum."""
    total = None
    passed = failed = 0
    seen = False
    for line in lines:
        if found := re.match(rf"Ran {_NUMBER} tests? in ", line):
            total = int(found[1])
        elif total is not None and (found := re.match(r"(?:OK|FAILED)(?: \(([^)]{0,200})\))?\s*$", line)):
            parts = {name: int(value) for name, value in re.findall(rf"(\w{{1,30}})={_NUMBER}", found[1] or "")}
            bad = parts.get("failures", 0) + parts.get("errors", 0) + parts.get("successes", 0)
            passed, failed, seen = passed + max(total - bad - parts.get("skipped", 0), 0), failed + bad, True
            total = None
    return (passed, failed) if seen else None


_FORMS: tuple[Callable[[Sequence[str]], tuple[int, int] | None], ...] = (
    _summed(rf"^test result: \w+\. (?P<passed>{_NUMBER}) passed; (?P<failed>{_NUMBER}) failed"),  # cargo
    _summed(rf"^\s*Tests:? +(?:(?P<failed>{_NUMBER}) failed ?[,|] ?)?[^\n]{{0,80}}?(?P<passed>{_NUMBER}) passed"),  # jest, vitest
    _summed(rf"^\s*Tests:? +(?P<failed>{_NUMBER}) failed"),
    _summed(
        rf"^(?:\[\w+\] )?Tests run: (?P<total>{_NUMBER}), Failures: (?P<failed>{_NUMBER}), Errors: (?P<errors>{_NUMBER})"
        rf"(?:, Skipped: (?P<skipped>{_NUMBER}))?(?!.*Time elapsed)"
    ),  # JUnit
    _summed(rf"(?P<failed>{_NUMBER}) tests? failed out of (?P<total>{_NUMBER})"),  # ctest
    _summed(rf"^Tests: (?P<total>{_NUMBER}), Assertions: \d+(?:, Errors: (?P<errors>{_NUMBER}))?(?:, Failures: (?P<failed>{_NUMBER}))?(?:(?:, \w+: \d+){{0,5}}?, Skipped: (?P<skipped>{_NUMBER}))?"),  # PHPUnit
    _summed(rf"^OK \((?P<total>{_NUMBER}) tests?, "),
    _summed(rf"^(?P<total>{_NUMBER}) examples?, (?P<failed>{_NUMBER}) failures?(?:, (?P<skipped>{_NUMBER}) pending)?"),  # rspec
    _summed(rf"(?:Passed|Failed)! +- Failed: +(?P<failed>{_NUMBER}), Passed: +(?P<passed>{_NUMBER})"),  # dotnet
    _summed(rf"^\s*(?P<passed>{_NUMBER}) passing\b", rf"^\s*{_NUMBER} failing\b"),  # mocha
    _unittest,
    _counted(r"[ \t]*--- PASS", r"[ \t]*--- FAIL"),  # go test -v
    _counted(r"ok[ \t]+[^\s./]*[./]\S*[ \t]", r"FAIL[ \t]+\S"),  # go test, a line a package
    _counted(r"ok \d{1,7}\b(?!.{0,300}# (?:SKIP|TODO))", r"not ok \d{1,7}\b(?!.{0,300}# TODO)"),  # TAP
    _pytest,
)
