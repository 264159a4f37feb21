"""A checkpoint is whole or is not there."""

import errno

import pytest
import torch
from safetensors.torch import load_file

from apprentice.core import files
from apprentice.core.errors import InputError, StorageError
from apprentice.core.fakes import FailingOperations
from apprentice.train import checkpoints

WEIGHTS = {"b": torch.arange(6, dtype=torch.float32).reshape(2, 3), "a": torch.tensor(1.5)}
MOMENTS = {"exp_avg:b": torch.ones(2, 3)}


def test_what_is_saved_comes_back(tmp_path):
    path = checkpoints.save(tmp_path, 12, WEIGHTS, MOMENTS, {"progress": 1 / 3})
    assert checkpoints.find(tmp_path) == [(12, path)]
    assert checkpoints.load_state(path) == {"progress": 1 / 3}
    for name, tensor in checkpoints.load_tensors(path / checkpoints.WEIGHTS).items():
        assert torch.equal(tensor, WEIGHTS[name])


def test_the_files_are_safetensors(tmp_path):
    path = checkpoints.save(tmp_path, 1, WEIGHTS, MOMENTS, {})
    assert load_file(path / checkpoints.WEIGHTS)["b"].tolist() == WEIGHTS["b"].tolist()


def test_whatever_operation_fails_the_older_checkpoint_stands(tmp_path):
    clean = FailingOperations(0, errno.ENOSPC)
    checkpoints.save(tmp_path / "clean", 1, WEIGHTS, MOMENTS, {"old": True})
    with files.using(clean):
        checkpoints.save(tmp_path / "clean", 2, WEIGHTS, MOMENTS, {})
    for number in range(1, len(clean.performed) + 1):
        folder = tmp_path / f"run-{number}"
        old = checkpoints.save(folder, 1, WEIGHTS, MOMENTS, {"old": True})
        with files.using(FailingOperations(number, errno.ENOSPC)), pytest.raises(StorageError, match="run-"):
            checkpoints.save(folder, 2, WEIGHTS, MOMENTS, {"old": False})
        found = checkpoints.find(folder)
        assert found[0] == (1, old)
        for _, path in found:
            assert checkpoints.load_state(path)["old"] in (True, False)
            checkpoints.load_tensors(path / checkpoints.OPTIMIZER)


def test_pruning_keeps_the_last_and_the_weights_of_the_best(tmp_path):
    for step in (1, 2, 3, 4):
        checkpoints.save(tmp_path, step, WEIGHTS, MOMENTS, {})
    checkpoints.prune(tmp_path, resume_step=4, best_step=2)
    assert [step for step, _ in checkpoints.find(tmp_path)] == [4]
    assert checkpoints.weights_path(tmp_path, 2).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002", "step-000004"]


def test_a_damaged_file_is_named(tmp_path):
    path = checkpoints.save(tmp_path, 1, WEIGHTS, MOMENTS, {})
    (path / checkpoints.WEIGHTS).write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match=checkpoints.WEIGHTS) as error:
        checkpoints.load_tensors(path / checkpoints.WEIGHTS)
    assert str(tmp_path) in (error.value.hint or "")
