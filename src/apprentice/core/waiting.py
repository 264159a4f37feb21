"""A lock whose turn is waited for: right where another process makes what this one needs.

`files.lock` ends with an error that names who holds it, which is right where two would do the same.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from apprentice.core import files
from apprentice.core.errors import InputError

POLL_S = 0.2


@contextlib.contextmanager
def lock(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a folder alone, once nobody else does. `say` is told, once, who holds it now."""
    with contextlib.ExitStack() as held:
        is_said = False
        while True:
            try:
                held.enter_context(files.lock(folder))
                break
            except InputError as error:
                if not is_said:
                    say(f"{error.message}: waiting")
                is_said = True
                time.sleep(POLL_S)
        yield
