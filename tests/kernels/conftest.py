from __future__ import annotations

import pytest

from apprentice.kernels.native import Library, Pool

VARIANTS = ("portable", "avx2", "avx512", "neon")


@pytest.fixture(scope="session")
def pool(library: Library) -> Pool:
    return Pool(library, 2)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest, library: Library) -> str:
    """Every variant of the operators that this machine runs; the others are skipped by name."""
    if request.param not in library.usable:
        pytest.skip(f"this machine lacks the variant {request.param}")
    return request.param
