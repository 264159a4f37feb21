from pathlib import Path

from apprentice.cli.doctor import Check, examine, render


def test_each_finding_that_is_not_fine_says_what_to_do(tmp_path: Path) -> None:
    checks = list(examine(tmp_path))
    assert {check.status for check in checks} <= {"ok", "warn", "missing"}
    assert [check.name for check in checks if check.status != "ok" and not check.fix] == []
    assert len({check.name for check in checks}) == len(checks)


def test_nothing_is_written_by_looking(tmp_path: Path) -> None:
    list(examine(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_text_shows_fix_and_verdict_and_no_escapes() -> None:
    checks = [
        Check(name="torch", status="missing", detail="\x1b[31mno", fix="`pip install x`", needed_for=("learn",)),
        Check(name="git", status="ok", detail="2.39"),
    ]
    assert render(checks, {"learn": False, "serve": True}).splitlines() == [
        "missing torch  no",
        "               -> `pip install x`",
        "ok      git    2.39",
        "",
        "`apprentice learn` cannot run here",
        "`apprentice serve` can run here",
    ]
