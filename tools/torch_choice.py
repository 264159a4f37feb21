"""Answers tools/set_up needs about torch, as exit codes: 0 is yes.

    torch_choice.py installed 2.13.0    is that version installed already, in any build?
    torch_choice.py cuda report.json    would what `pip install --dry-run --report` found bring CUDA with it?
"""

import importlib.metadata
import json
import sys
from pathlib import Path


def is_installed(version: str) -> bool:
    try:
        return importlib.metadata.version("torch").partition("+")[0] == version
    except importlib.metadata.PackageNotFoundError:
        return False


def brings_cuda(report: Path) -> bool:
    found = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    names = [package["name"].lower() for package in found]
    torch = [package["version"] for package in found if package["name"] == "torch"]
    return any(name.startswith(("nvidia-", "cuda-")) for name in names) or any("+cu" in version for version in torch)


if __name__ == "__main__":
    question, argument = sys.argv[1:]
    sys.exit(not (is_installed(argument) if question == "installed" else brings_cuda(Path(argument))))
