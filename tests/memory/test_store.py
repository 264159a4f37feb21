"""A memory survives being stored, and what comes from disk is not trusted."""

import errno
import json
import re
from pathlib import Path

import numpy as np
import pytest

from apprentice.core import files
from apprentice.core.errors import HostileInputError, InputError, StorageError
from apprentice.core.fakes import ByteTokenizer, FailingOperations
from apprentice.memory.gate import Gate
from apprentice.memory.memory import Memory
from apprentice.memory.store import load, save
from apprentice.text.edits import NEW_MARK, Edit

TOKENIZER = ByteTokenizer()
LINES = ["def f(a):", "    return a", "", "f(1)"]


def filled() -> Memory:
    memory = Memory(TOKENIZER, Gate(Gate.default().weights_SF + 0.25))
    memory.set_files({"a.py": "def f(b):\n    return b\n", "gone.py": "x\n", "b.py": "\n".join(LINES)})
    memory.remove_file("gone.py")
    for number in range(3):
        edit = Edit("a.py", 4 + number, ("old",), ("    return a", f"    # {number}"), ("def f(a):",))
        memory.add_edit(edit, {"commit": f"c{number}"})
    return memory


def mixed(memory: Memory) -> np.ndarray:
    mixture = memory.mixture(path="b.py", lines=LINES, start_line=1, end_line=2, prompt_ids=TOKENIZER.encode(NEW_MARK))
    log_probs = np.full(TOKENIZER.vocab_size, -np.log(TOKENIZER.vocab_size), np.float32)
    rows = []
    for token in TOKENIZER.encode("\n    return"):
        rows.append(mixture.mix(log_probs))
        mixture.advance(token)
    return np.array(rows)


def test_a_loaded_memory_says_and_explains_the_same_and_goes_on_learning(tmp_path: Path):
    memory = filled()
    manifest = save(memory, tmp_path / "memory", parents={"sessions": "abc"})
    loaded = load(tmp_path / "memory", TOKENIZER)
    assert manifest.counts["edits"] == 3
    assert loaded.paths == memory.paths == ["a.py", "b.py"]
    assert (mixed(loaded) == mixed(memory)).all()
    place = {"path": "c.py", "lines": LINES, "start_line": 1, "end_line": 2, "new_text": "    return a\n    # 2"}
    assert loaded.explain(**place) == memory.explain(**place)
    assert loaded.explain(**place)[0].commit == "c2"
    for either in (memory, loaded):
        either.set_file("a.py", "return 5\n")
        either.add_edit(Edit("b.py", 0, (), ("    return a + 1",)), {})
    assert (mixed(loaded) == mixed(memory)).all()


def test_equal_memories_are_stored_as_equal_artifacts(tmp_path: Path):
    assert save(filled(), tmp_path / "one").hash == save(filled(), tmp_path / "two").hash


def test_an_empty_memory_can_be_stored(tmp_path: Path):
    save(Memory(TOKENIZER), tmp_path / "memory")
    assert load(tmp_path / "memory", TOKENIZER).num_tokens == 0


def test_a_memory_of_another_tokenizer_is_refused(tmp_path: Path):
    save(filled(), tmp_path / "memory")
    with pytest.raises(InputError, match="another tokenizer"):
        load(tmp_path / "memory", ByteTokenizer(specials=["<|endoftext|>"], eos=["<|endoftext|>"]))


def test_a_folder_that_is_no_memory_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="memory"):
        load(tmp_path, TOKENIZER)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("repository/tokens", np.array([1, 2, 3], np.int32)),
        ("repository/tokens", np.array([[1, 2]], np.int32)),
        ("repository/order", np.array([-1, 10**6], np.int32)),
        ("repository/sizes", np.array([[-5, 0], [9, 0]], np.int32)),
        ("edits/sizes", np.zeros((0, 2), np.int32)),
        ("edits/order", np.zeros(3, np.float64)),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(tmp_path: Path, name: str, array: np.ndarray):
    save(filled(), tmp_path / "memory")
    np.save(tmp_path / "memory" / f"{name}.npy", array)
    with pytest.raises(HostileInputError):
        load(tmp_path / "memory", TOKENIZER)


def test_token_ids_outside_of_the_vocabulary_are_refused(tmp_path: Path):
    save(filled(), tmp_path / "memory")
    path = tmp_path / "memory" / "edits" / "tokens.npy"
    tokens = np.load(path)
    tokens[3] = 10**6
    np.save(path, tokens)
    with pytest.raises(HostileInputError, match="vocabulary"):
        load(tmp_path / "memory", TOKENIZER)


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path: Path):
    save(filled(), tmp_path / "memory")
    path = tmp_path / "memory" / "edits" / "tokens.npy"
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<i4", "fortran_order": False, "shape": (1 << 40,)})
    with pytest.raises(InputError):
        load(tmp_path / "memory", TOKENIZER)


def test_pickled_arrays_are_not_opened(tmp_path: Path):
    save(filled(), tmp_path / "memory")
    np.save(tmp_path / "memory" / "edits" / "tokens.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "memory", TOKENIZER)


@pytest.mark.parametrize("content", [b"", b"{", b'{"tokenizer": 1}', b"\xff\xfe"])
def test_broken_documents_are_named(tmp_path: Path, content: bytes):
    save(filled(), tmp_path / "memory")
    (tmp_path / "memory" / "documents.json").write_bytes(content)
    with pytest.raises(InputError, match=r"documents\.json"):
        load(tmp_path / "memory", TOKENIZER)


def test_a_path_listed_twice_is_refused(tmp_path: Path):
    save(filled(), tmp_path / "memory")
    path = tmp_path / "memory" / "documents.json"
    documents = json.loads(path.read_text())
    documents["groups"].append(documents["groups"][0])
    path.write_text(json.dumps(documents))
    with pytest.raises(HostileInputError, match="twice"):
        load(tmp_path / "memory", TOKENIZER)


def save_failing_at(memory: Memory, folder: Path, operation: int) -> StorageError | None:
    try:
        with files.using(FailingOperations(operation, errno.ENOSPC)):
            save(memory, folder)
    except StorageError as error:
        return error
    return None


def test_a_write_that_fails_anywhere_leaves_no_memory_or_a_whole_one(tmp_path: Path):
    memory, operation = filled(), 1
    while (error := save_failing_at(memory, folder := tmp_path / str(operation), operation)) is not None:
        assert str(folder) in error.message
        if (folder / "manifest.json").exists():
            assert (mixed(load(folder, TOKENIZER)) == mixed(memory)).all()
        else:
            with pytest.raises(InputError, match=re.escape(str(folder))):
                load(folder, TOKENIZER)
        operation += 1
    assert operation > 10
