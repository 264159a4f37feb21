from __future__ import annotations

import pytest

from apprentice.kernels import native


@pytest.fixture(params=["native", "numpy"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both that an engine can compute with."""
    if request.param == "native" and native.load() is None:
        pytest.skip(native.why_missing())
    return request.param
