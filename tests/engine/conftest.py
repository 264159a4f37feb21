from __future__ import annotations

import pytest

from apprentice.kernels import native
from apprentice.kernels.native import Library


@pytest.fixture(scope="session")
def library() -> Library:
    """The native operators, which ./test compiles: without a compiler, what needs them is skipped and says why."""
    found = native.load()
    if found is None:
        pytest.skip(native.why_missing())
    return found


@pytest.fixture(params=["native", "numpy"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both that an engine can compute with."""
    if request.param == "native" and native.load() is None:
        pytest.skip(native.why_missing())
    return request.param
