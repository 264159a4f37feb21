"""What must stand in the environment BEFORE torch is loaded. No torch here: a command calls `prepare` first thing."""

from __future__ import annotations

import os

ENVIRONMENT = {
    # A worker that spins while it waits takes the core from whoever else runs: one step went from 9 to 43 s.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def prepare() -> None:
    """Set what is not set already. Without effect on a process that has loaded torch before."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
