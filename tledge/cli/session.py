"""One invocation of a command: where its output goes, its progress, and how errors become a line and an exit code."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import typer

from tledge import documents
from tledge.errors import CheckFailed, OutputError, TledgeError

_INTERRUPTED = 130
_BROKEN_PIPE = 141
# What a machine may answer to any program at any moment; every other OSError that comes this far is a bug.
_OUT_OF_OUR_HANDS = {
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "EMFILE", "ENFILE")
}
_PLAIN_WIDTH = 4000  # no table is folded into a file or a pipe


class Session:
    """A command's run: `with Session(json, verbose) as session`, then `session.show(document, render)`.

    On the way out a TledgeError becomes one line on standard error and its exit code, a full disk or a closed pipe
    likewise; anything else is a bug and keeps its traceback. `interrupted` is what Ctrl-C leaves behind, in words.
    """

    def __init__(self, json: bool, verbose: bool, interrupted: str = "") -> None:
        self.json, self.verbose, self._interrupted = json, verbose, interrupted
        self.exit_code = 0
        self._progress: Any = None
        self._notes = _Notes(self.note)
        if verbose:
            logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s: %(message)s")

    def __enter__(self) -> Session:
        if not self.verbose:  # with -v they are among the messages of the log
            logging.getLogger("tledge").addHandler(self._notes)
        return self

    def progress(self, words: str, done: int, total: int) -> None:
        """Show that `done` of `total` things are behind us: a bar on a terminal, with `-v` a line for each stage."""
        if self._progress is None:
            from tledge.cli import progress

            moving = _interactive() and sys.stderr.isatty() and not self.json
            self._progress = progress.choose(sys.stderr, moving=moving, verbose=self.verbose)
        self._progress(words, done, total)

    def note(self, words: str) -> None:
        """Say something on standard error that stays there to be read."""
        self._close()
        _say(words)

    def show(self, document: Any, render: Callable[[Any, Any], None]) -> None:
        """Print `document`: as JSON, or through `render(document, console)`."""
        self._close()
        try:
            if self.json:
                sys.stdout.write(documents.to_json(document))
            else:
                render(document, _console())
            sys.stdout.flush()
        except OSError as error:
            _drop_output()
            if isinstance(error, BrokenPipeError):
                raise typer.Exit(_BROKEN_PIPE) from error
            raise OutputError(f"Standard output cannot be written: {error.strerror}.", "Make room there.") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        logging.getLogger("tledge").removeHandler(self._notes)
        if error is None:
            raise typer.Exit(self.exit_code)
        if isinstance(error, KeyboardInterrupt):
            _say(f"Interrupted. {self._interrupted}")
            raise typer.Exit(_INTERRUPTED)
        if isinstance(error, OSError) and error.errno in _OUT_OF_OUR_HANDS:
            what = error.filename or "A file"
            error = OutputError(f"{what} cannot be used: {error.strerror}.", "Check space and rights.")
        if isinstance(error, TledgeError):
            self._explain(error)
            raise typer.Exit(error.exit_code)

    def _explain(self, error: TledgeError) -> None:
        if self.verbose:
            logging.getLogger("tledge").info("traceback", exc_info=error)
        _say(f"error: {error}")
        if self.json:
            kind = "check_failed" if isinstance(error, CheckFailed) else "bad_input"
            said = {"kind": kind, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
            measured = asdict(error.measured) if isinstance(error, CheckFailed) and error.measured else {}
            try:
                sys.stdout.write(documents.dumps({"error": said, **measured}))
                sys.stdout.flush()
            except OSError:
                _drop_output()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None


class _Notes(logging.Handler):
    """Warnings of the library, from whatever depth, as notes."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note(f"note: {record.getMessage()}")


def run_app(app: typer.Typer) -> None:
    """Run `app` on the process's arguments, and exit."""
    sys.stdout = sys.stdout or _nowhere()  # closed by whoever started us
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
    app()


def printable(text: str) -> str:
    """Return `text` without control characters, which a file name could use to write all over a terminal."""
    return "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in text)


def _console() -> Any:
    from rich.console import Console

    if _interactive():
        console = Console(highlight=False, soft_wrap=True)
    else:
        console = Console(highlight=False, soft_wrap=True, no_color=True, force_terminal=False, width=_PLAIN_WIDTH)
    console.on_broken_pipe = _broken_pipe  # rich would exit 1, which here means that a check has failed
    return console


def _broken_pipe() -> None:
    raise BrokenPipeError


def _interactive() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and not os.environ.get("CI")


def _say(line: str) -> None:
    sys.stderr.write(printable(" ".join(line.split())) + "\n")


def _drop_output() -> None:
    """Let what is still buffered go nowhere, or Python fails once more on it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nowhere() -> Any:
    return Path(os.devnull).open("w")
