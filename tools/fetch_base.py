"""Bring the default base model to this machine, if it is not there: the last part of tools/set_up."""

import sys

from apprentice.cli import common
from apprentice.core.progress import Progress
from apprentice.model import base

if __name__ == "__main__":
    try:
        with Progress() as progress:
            base.resolve(None, progress=progress)
    except Exception as error:
        sys.exit(common.report(error, verbose=False))
