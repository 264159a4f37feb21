"""Runs under a Python that has detect-secrets or scrubadub: NAME FOLDER -> lines `NUMBER LINE` (0-based) of what is found.

Nothing of ours is imported. detect-secrets reads each file with all its plugins and its usual filters; scrubadub with its
detectors of e-mail addresses, of names of accounts, and of phone numbers in five regions.
"""

from __future__ import annotations

import bisect
import sys
from collections.abc import Iterator
from pathlib import Path


def detect_secrets(folder: Path) -> Iterator[tuple[int, int]]:
    """Lines with a secret."""
    from detect_secrets.core.scan import scan_file  # pyrefly: ignore
    from detect_secrets.settings import default_settings  # pyrefly: ignore

    with default_settings():
        for path in sorted(folder.glob("*.txt")):
            for secret in scan_file(str(path)):
                yield int(path.stem), secret.line_number - 1


def scrubadub(folder: Path) -> Iterator[tuple[int, int]]:
    """Lines with something personal."""
    import scrubadub as library  # pyrefly: ignore
    from scrubadub.detectors import EmailDetector, PhoneDetector, TwitterDetector  # pyrefly: ignore

    detectors = [EmailDetector(), TwitterDetector(), *(PhoneDetector(locale=name, name=name) for name in ("en_US", "en_GB", "de_DE", "fr_FR", "sv_SE"))]
    scrubber = library.Scrubber(detector_list=detectors)
    for path in sorted(folder.glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        starts = [0, *(at + 1 for at, character in enumerate(text) if character == "\n")]
        for found in scrubber.iter_filth(text):
            for line in range(bisect.bisect_right(starts, found.beg) - 1, bisect.bisect_right(starts, max(found.beg, found.end - 1))):
                yield int(path.stem), line


if __name__ == "__main__":
    for number, line in {"detect-secrets": detect_secrets, "scrubadub": scrubadub}[sys.argv[1]](Path(sys.argv[2])):
        print(number, line)
