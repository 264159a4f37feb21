"""Fixtures that tests of several packages share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apprentice.kernels import native
from apprentice.kernels.native import Library


class GitRepository:
    """A small repository in the making; each commit a minute after the one before."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        self._minutes = 0
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main", *options)

    def git(self, *arguments: str, data: bytes | None = None, **environment: str) -> str:
        """Run git there, untouched by the machine's configuration; what it says on stdout."""
        clean = {"PATH": os.environ["PATH"], "HOME": str(self.path), "GIT_CONFIG_NOSYSTEM": "1", **environment}
        identity = ["-c", "user.name=Ada Lovelace", "-c", "user.email=ada@analytical.example"]
        protocol = ["-c", "protocol.file.allow=always"]
        done = subprocess.run(
            ["git", *identity, *protocol, *arguments],
            cwd=self.path,
            env=clean,
            input=data,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def write(self, path: str, content: str | bytes) -> None:
        """Put a file into the work tree."""
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, message: str = "Change things", *, author: str = "", **files: str | bytes) -> str:
        """Commit everything that stands in the work tree; the id. `files`: names with `_` for `.`, before the last one."""
        for name, content in files.items():
            self.write(".".join(name.rsplit("_", 1)), content)
        self.git("add", "-A")
        options = ["--author", author] if author else []
        self._minutes += 1
        stamp = f"{1_700_000_000 + 60 * self._minutes} +0000"
        self.git(
            "commit", "-q", "--allow-empty", "--no-verify", "-F", "-", *options,
            data=message.encode(), GIT_AUTHOR_DATE=stamp, GIT_COMMITTER_DATE=stamp,
        )  # fmt: skip
        return self.git("rev-parse", "HEAD")

    def merge(self, branch: str) -> str:
        """Merge another branch into this one; the id."""
        self._minutes += 1
        stamp = f"{1_700_000_000 + 60 * self._minutes} +0000"
        self.git(
            "merge", "-q", "--no-ff", "-m", f"Merge {branch}", branch, GIT_AUTHOR_DATE=stamp, GIT_COMMITTER_DATE=stamp
        )
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def new_repository(tmp_path: Path) -> Callable[..., GitRepository]:
    """Makes empty repositories: `new_repository("name")`."""

    def make(name: str = "repository", *options: str) -> GitRepository:
        return GitRepository(tmp_path / name, *options)

    return make


@pytest.fixture(scope="session")
def repository_at() -> type[GitRepository]:
    """Makes repositories that several tests share: `repository_at(path)`."""
    return GitRepository


@pytest.fixture(scope="session")
def library() -> Library:
    """The native operators, which ./test compiles: without a compiler, what needs them is skipped and says why."""
    found = native.load()
    if found is None:
        pytest.skip(native.why_missing())
    return found


@pytest.fixture(scope="session")
def folder_at() -> Callable[..., Path]:
    """Makes random checkpoints of the debug shape, or another, with the debug tokenizer: `folder_at(path)`. Biases and norms
    are not left at 0 and 1, so that a model which forgets one is found out."""
    torch = pytest.importorskip("torch")
    from apprentice.model import presets, weights
    from apprentice.model.config import ModelConfig
    from apprentice.model.transformer import Transformer
    from apprentice.text.tokenizer import Tokenizer

    def make(path: Path, config: ModelConfig | None = None, *, dtype: weights.Dtype = "float32", seed: int = 0) -> Path:
        model = Transformer(presets.debug() if config is None else config).initialize(seed, std=0.08)
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter += 0.2 * torch.randn(parameter.shape, generator=random)
        weights.save(model, path, dtype=dtype)
        Tokenizer.byte_level().save(path)
        return path

    return make


@pytest.fixture
def make_folder(tmp_path: Path, folder_at: Callable[..., Path]) -> Callable[..., Path]:
    """The same in the test's own folder."""

    def make(config: Any = None, *, name: str = "model", **settings: Any) -> Path:
        return folder_at(tmp_path / name, config, **settings)

    return make
