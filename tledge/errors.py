"""Errors that a user can act on, and the exit code that each one stands for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class TledgeError(Exception):
    """State what must hold and what was found (`message`), and what to do about it (`hint`).

    The command line prints `message` and `hint` as one line and exits with `exit_code`. Anything that is not a
    `TledgeError` is a bug and keeps its traceback.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class DataError(TledgeError):
    """The samples cannot be used: none found, one class, an unreadable or refused file."""


class BackboneError(TledgeError):
    """The backbone is unknown, its weights are missing, or its conversion went wrong."""


class ModelError(TledgeError):
    """The file is not a tledge model, was changed after export, or does not do what it promised."""


class EngineError(TledgeError):
    """onnxruntime is missing, installed twice, or the provider asked for is not active."""


class OutputError(TledgeError):
    """The place to write to is taken, full or not writable."""


class MissingExtra(TledgeError):
    """An optional dependency is needed; the hint names the extra that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed.", f"Install it with: pip install 'tledge[{extra}]'.")


class CheckFailed(TledgeError):
    """A check that the user asked for (parity, budget, regression) did not pass; nothing was written.

    `measured` is the document of what was found, a dataclass, where there is one.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", measured: Any = None) -> None:
        super().__init__(message, hint)
        self.measured = measured


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return a hint for an unknown `name`: the nearest of `choices` if one is near, and all of them."""
    import difflib  # only errors need it

    choices = tuple(choices)
    near = difflib.get_close_matches(name.lower(), choices, n=1, cutoff=0.5)
    question = f"Did you mean {near[0]}? " if near else ""
    return f"{question}There are: {', '.join(choices)}."
