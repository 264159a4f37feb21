"""Rules of the tree that no linter knows. Each has a short list of exceptions, with the reason beside it."""

import ast
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "apprentice").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
WRITES = frozenset({
    "write_text", "write_bytes", "mkdir", "makedirs", "touch", "unlink", "rmdir", "rmtree", "symlink_to", "hardlink_to",
    "copyfile", "copytree", "copy2", "move", "remove_dirs", "renames", "mkdtemp", "mkstemp", "NamedTemporaryFile",
    "TemporaryDirectory", "save_file",
})  # fmt: skip
WRITERS = frozenset({"files", "writer", "self"})
"""Names whose methods may be called like a writing function: `files.write_text` is the way to write."""
MAY_WRITE: dict[str, str] = {
    "core/files.py": "it is the one place",
    "core/fakes.py": "its failing operations pass on to the real ones",
}
MAY_PRINT: dict[str, str] = {
    "core/progress.py": "it is the one place for progress",
}


def name(path: Path) -> str:
    return path.relative_to(ROOT / "src" / "apprentice").as_posix()


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def writing_calls(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if node.func.attr in WRITES and owner not in WRITERS:
                yield f"line {node.lineno}: {node.func.attr}"
            if node.func.attr == "open" and owner not in {*WRITERS, "os"} and is_write_mode(node.args[:1]):
                yield f"line {node.lineno}: open for writing"
        elif isinstance(node.func, ast.Name) and node.func.id == "open" and is_write_mode(node.args[1:2]):
            yield f"line {node.lineno}: open for writing"


def is_write_mode(mode: list[ast.expr]) -> bool:
    if not mode or not isinstance(mode[0], ast.Constant) or not isinstance(mode[0].value, str):
        return False
    return len(mode[0].value) <= 3 and bool(set("wax+") & set(mode[0].value))


def too_long(path: Path) -> Iterator[str]:
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    if num_lines > MAX_FILE_LINES:
        yield f"{num_lines} lines"
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            num_lines = (node.end_lineno or 0) - node.lineno + 1
            if num_lines > MAX_FUNCTION_LINES:
                yield f"{node.name} has {num_lines} lines"


def print_calls(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"line {node.lineno}"


def findings(find: Callable[[Path], Iterator[str]], paths: Iterable[Path]) -> dict[str, list[str]]:
    found = {name(path): list(find(path)) for path in paths}
    return {where: what for where, what in found.items() if what}


def test_files_and_functions_can_be_read_in_one_go() -> None:
    assert findings(too_long, SOURCES) == {}


def test_a_module_tells_what_it_is_for_and_a_package_file_is_empty() -> None:
    texts = {name(path): path.read_text(encoding="utf-8") for path in SOURCES}
    packages = {where for where in texts if where.endswith("__init__.py")}
    assert [where for where in packages if texts[where]] == []
    assert [where for where in texts.keys() - packages if not ast.get_docstring(ast.parse(texts[where]))] == []


def test_files_are_written_in_one_place() -> None:
    assert findings(writing_calls, (path for path in SOURCES if name(path) not in MAY_WRITE)) == {}


def test_only_commands_print() -> None:
    others = (path for path in SOURCES if path.parent.name != "cli" and name(path) not in MAY_PRINT)
    assert findings(print_calls, others) == {}


def test_nothing_is_patched() -> None:
    words = ("monkey" + "patch", "unittest." + "mock", "mocker" + ".")
    assert [path for path in TESTS if any(word in path.read_text(encoding="utf-8") for word in words)] == []


def test_tests_lie_where_their_subject_lies() -> None:
    modules = {path.relative_to(ROOT / "src" / "apprentice").parent for path in SOURCES}
    folders = {path.parent.relative_to(ROOT / "tests") for path in TESTS if path.name.startswith("test_")}
    assert folders - modules - {Path("tools")} == set()


def test_every_toml_file_can_be_read_and_every_recipe_is_one() -> None:
    known = {path for path in ROOT.rglob("*.toml") if not path.relative_to(ROOT).parts[0].startswith(".")}
    recipes = {path for path in known if path.parent.name == "recipes"}
    assert ROOT / "pyproject.toml" in known
    assert all(tomllib.loads(path.read_text(encoding="utf-8")) for path in known)
    if recipes:
        from apprentice.core import config
        from apprentice.train.sft import SftConfig

        assert all(config.load(SftConfig, path) for path in sorted(recipes))
