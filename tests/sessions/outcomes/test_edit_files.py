from __future__ import annotations

from apprentice.sessions.outcomes.edit_files import EditFiles

PATHS = [
    ("engine", "src/main.py"), ("engine", "src/util/text.py"), ("engine", "tests/test_main.py"), ("engine", "README.md"),
    ("engine", "cli/src/main.py"), ("shop", "src/main.py"), ("shop", "web/cart.ts"),
]  # fmt: skip


def find(name: str, *paths: str) -> list[str]:
    """The file that each path means, empty for none."""
    found = EditFiles(PATHS).find(name, paths)
    return [" or ".join("/".join(PATHS[number]) for number in found[path].files) for path in paths]


def test_the_folder_with_the_repositorys_name_holds_it() -> None:
    assert find("", "/home/ada/engine/src/main.py", "/home/ada/shop/src/main.py") == ["engine/src/main.py", "shop/src/main.py"]
    assert find("", "C:\\work\\Engine\\README.md", "/w/engine-fix/README.md") == ["engine/README.md", "engine/README.md"]
    assert find("", "/home/ada/other/src/main.py", "/home/ada/engines/README.md") == ["", ""]


def test_without_its_name_three_files_in_one_folder_tell() -> None:
    three = ("/w/copy/src/main.py", "/w/copy/src/util/text.py", "/w/copy/tests/test_main.py")
    assert find("", *three) == ["engine/src/main.py", "engine/src/util/text.py", "engine/tests/test_main.py"]
    assert find("", *three[:2]) == ["", ""]
    others = [f"/w/copy/lib/{number}.py" for number in range(4)]
    assert find("", *three, *others) == [""] * 7


def test_a_relative_path_starts_from_the_repository_that_the_session_names() -> None:
    assert find("engine", "src/main.py", "README.md", "engine/README.md") == ["engine/src/main.py", "engine/README.md", "engine/README.md"]
    assert find("shop.git", "src/main.py", "cart.ts") == ["shop/src/main.py", "shop/web/cart.ts"]
    # The session of a folder in the repository, and one of another project with the same names.
    assert find("cli", "src/main.py") == ["engine/cli/src/main.py"]
    assert find("garden", "src/main.py", "README.md", "tests/test_main.py") == ["", "", ""]


def test_a_path_outside_is_told_from_a_file_that_was_never_committed() -> None:
    paths = ("/home/ada/engine/src/main.py", "/home/ada/engine/new/file.py", "/home/ada/.claude/plan.md", "/tmp/README.md")
    found = EditFiles(PATHS).find("", paths)
    assert [found[path].is_inside for path in paths] == [True, True, False, False]
    assert [found[path].may_be_inside for path in paths] == [True, False, False, True]
    (nothing,) = EditFiles(PATHS).find("", ["/x/unheard.py"]).values()
    assert (nothing.is_inside, nothing.may_be_inside) == (False, True)


def test_one_name_for_two_repositories_leaves_both() -> None:
    twins = EditFiles([("engine", "a.py"), ("old/engine", "a.py")])
    assert twins.find("engine", ["a.py"])["a.py"].files == (0, 1)


def test_odd_paths_mean_nothing() -> None:
    assert find("engine", "", "/", "..", "src/", "\\") == ["", "", "", "", ""]
