"""Which state of the model was measured: the commit, where a CI says it."""

from __future__ import annotations

import os

# GitHub Actions, GitLab, Jenkins.
_COMMIT = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")


def label(given: str | None) -> str | None:
    """Return the label `given`, or the commit that a CI's environment names, or None."""
    return given or next(filter(None, (os.environ.get(name) for name in _COMMIT)), None)
