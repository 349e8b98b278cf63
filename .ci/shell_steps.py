"""Run shellcheck on the shell scripts that stand in the YAML files of CI: `make lint`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
FILES = {".github/workflows": "bash", ".github/actions": "bash", ".gitlab": "sh"}


def scripts(node: Any) -> Iterator[str]:
    """Yield every shell script in a parsed YAML file: GitHub's `run`, and the parts of GitLab's `script`."""
    if isinstance(node, list):
        for each in node:
            yield from scripts(each)
    elif isinstance(node, dict):
        if isinstance(node.get("run"), str):
            yield node["run"]
        if isinstance(node.get("script"), list):
            yield from node["script"]
        for each in node.values():
            yield from scripts(each)


def main() -> int:
    """Return 1 when shellcheck has something to say."""
    failed = 0
    for folder, shell in FILES.items():
        for path in sorted((ROOT / folder).rglob("*.yml")):
            for script in scripts(yaml.safe_load(path.read_text())):
                print(path.relative_to(ROOT), flush=True)
                command = [Path(sys.executable).parent / "shellcheck", f"--shell={shell}", "-"]
                failed |= subprocess.run(command, input=script, text=True).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
