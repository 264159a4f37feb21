"""The environment is prepared before torch, and without it."""

import subprocess
import sys


def _run(code, **environment):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment or None)
    return done.stdout.split()


CODE = """
import os, sys
from apprentice.train import environment
environment.prepare()
print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""


def test_it_is_set_without_loading_torch():
    assert _run(CODE, PATH="/usr/bin:/bin", PYTHONPATH=":".join(sys.path)) == ["PASSIVE", "False"]


def test_what_the_user_set_stays():
    assert _run(CODE, OMP_WAIT_POLICY="ACTIVE", PYTHONPATH=":".join(sys.path)) == ["ACTIVE", "False"]
