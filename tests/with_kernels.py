"""Run pytest with another build of the compiled kernels: python tests/with_kernels.py EXTENSION [PYTEST OPTIONS]."""

from __future__ import annotations

import importlib.util
import sys

import pytest

NAME = "tledge._kernels"


def main(extension: str, *options: str) -> int:
    """Put the module in the file `extension` where `tledge.native` looks for it, and return pytest's exit code."""
    spec = importlib.util.spec_from_file_location(NAME, extension)
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])
    return pytest.main(list(options))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
