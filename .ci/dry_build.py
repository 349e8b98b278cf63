"""Run what Dockerfile.gpu says without Docker: in a bare Ubuntu, with this machine's CUDA in place of the image's.

    python .ci/dry_build.py ROOTFS [--cuda /usr/local/cuda-13.0]

ROOTFS is what `debootstrap --variant=minbase --components=main,universe noble ROOTFS` makes; it is copied for each
stage, beside itself. Needs root. At the end the image's user runs `tledge doctor`. Nothing of a GPU is tried.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield (word, arguments) of a Dockerfile, comments gone and lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


class Stage:
    """One stage: a copy of the bare system, its environment, user and folder."""

    def __init__(self, bare: Path, number: int, cuda: Path) -> None:
        self.root = bare.with_name(f"{bare.name}-stage{number}")
        shutil.rmtree(self.root, ignore_errors=True)
        subprocess.run(["cp", "-a", bare, self.root], check=True)
        shutil.copy("/etc/resolv.conf", self.root / "etc" / "resolv.conf")
        self.cuda, self.folder, self.user = cuda, "/", "0"
        # Whom this machine trusts: its registry may stand behind a proxy.
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", self.root / "etc" / "trusted.crt")
        path = "/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.environment = {"PIP_CERT": "/etc/trusted.crt", "PATH": path}

    def run(self, command: str) -> None:
        """Run a shell command inside, with /proc, /dev and CUDA there while it runs."""
        print(f"── {self.root.name}: {command}", flush=True)
        mounts = [("/proc", "proc"), ("/dev", "dev"), (str(self.cuda), "usr/local/cuda")]
        for _, place in mounts:
            (self.root / place).mkdir(exist_ok=True, parents=True)
        bind = " && ".join(f"mount --rbind {source} {shlex.quote(str(self.root / to))}" for source, to in mounts)
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environment.items())
        inside = f"cd {self.folder} && {command}"
        enter = f"chroot --userspec={self.user}:{self.user} {shlex.quote(str(self.root))}"
        script = f"{bind} && exec {enter} /usr/bin/env -i {words} /bin/sh -ec {shlex.quote(inside)}"
        subprocess.run(["unshare", "--mount", "/bin/sh", "-ec", script], check=True)

    def copy(self, sources: list[Path], target: str) -> None:
        """Copy files, and what is in folders, as COPY does."""
        to = self.root / self.folder.lstrip("/") / target if not target.startswith("/") else self.root / target[1:]
        for source in sources:
            if source.is_dir():
                shutil.copytree(source, to, dirs_exist_ok=True, symlinks=True)
            else:
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, to)


def build(dockerfile: Path, bare: Path, cuda: Path) -> Stage:
    """Go through all stages and return the last."""
    stages: dict[str, Stage] = {}
    stage = None
    entry: list[str] = []
    for word, rest in instructions(dockerfile.read_text()):
        if word == "FROM":
            stage = Stage(bare, len(stages), cuda)
            stages[rest.split()[-1]] = stage
        elif word == "RUN":
            stage.run(rest)
        elif word == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "ENV":
            for name, value in re.findall(r"(\w+)=(\S+)", rest):
                stage.environment[name] = value.replace("$PATH", stage.environment["PATH"])
        elif word == "USER":
            stage.user = rest
        elif word == "COPY":
            *sources, target = [each for each in rest.split() if not each.startswith("--")]
            origin = re.match(r"--from=(\S+)", rest)
            root = stages[origin[1]].root if origin else dockerfile.parent
            stage.copy([root / source.lstrip("/") for source in sources], target)
        elif word == "ENTRYPOINT":
            entry = json.loads(rest)
        else:
            raise SystemExit(f"{word} is not understood here; teach {Path(__file__).name} what it does.")
    stage.run(shlex.join([*entry, "--version"]))
    stage.run(f"{shlex.join([*entry, 'doctor'])} || test $? = 1")  # there is no GPU: it may find problems, not crash
    return stage


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rootfs", type=Path)
    parser.add_argument("--cuda", type=Path, default=Path("/usr/local/cuda-13.0"))
    arguments = parser.parse_args()
    build(HERE / "Dockerfile.gpu", arguments.rootfs.resolve(), arguments.cuda)
