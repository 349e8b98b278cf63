"""Read pickles of others without running their code: a name leads to what a table says, or the pickle is refused.

Source: Python documentation of `pickle`, "Restricting Globals".
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

Names = Mapping[tuple[str, str], Any]


class Stateful:
    """Base of stand-ins that a pickle may fill; they take its state in `__setstate__` and must check it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"{type(self).__name__} has no state")


# The unpickler in C keeps its memo in an array, so that one opcode with a large index takes all memory; this one, of
# the same module and in Python, keeps it in a dictionary.
class _Unpickler(pickle._Unpickler):
    """An unpickler to which no name exists but those of the table, and which fills no object but stand-ins."""

    def __init__(
        self, stream: BinaryIO, names: Names, encoding: str, open_persistent: Callable[[Any], Any] | None
    ) -> None:
        super().__init__(stream, encoding=encoding)
        self._names, self._open_persistent = names, open_persistent

    def find_class(self, module: str, name: str) -> Any:
        # An exact look-up: dotted names, which pickle would resolve attribute by attribute, are in no table.
        try:
            return self._names[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no such file needs") from None

    def persistent_load(self, pid: Any) -> Any:
        if self._open_persistent is None:
            raise pickle.UnpicklingError("it refers to something outside of itself")
        return self._open_persistent(pid)

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError(f"it refers to extension {code} of the program that wrote it")

    def _build(self) -> None:
        # Any other object keeps the state it has: what a table admits must not be altered through a pickle.
        state = self.stack.pop()
        if isinstance(self.stack[-1], Stateful):
            self.stack[-1].__setstate__(state)

    dispatch = pickle._Unpickler.dispatch | {pickle.BUILD[0]: _build}


def load(
    stream: BinaryIO,
    names: Names,
    *,
    encoding: str = "utf-8",
    open_persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Return the next object of `stream`, in which (module, name) means what `names` says and nothing else is known.

    Strings of Python 2 are decoded by `encoding`, or left as they are with "bytes". `open_persistent` gives what a
    persistent id stands for. What damaged pickles raise is not limited to `pickle.UnpicklingError`: catch Exception.
    """
    return _Unpickler(stream, names, encoding, open_persistent).load()
