"""One invocation of a command: where its output goes, its progress, and how errors become a line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

import typer

from tledge import documents
from tledge.errors import CheckFailed, OutputError, TledgeError

_INTERRUPTED = 130
_BROKEN_PIPE = 141


class Session:
    """A command's run: `with Session(json, verbose) as session`, then `session.show(document, render)`.

    On the way out a TledgeError becomes one line on standard error and its exit code, a full disk or a closed pipe
    likewise; anything else is a bug and keeps its traceback.
    """

    def __init__(self, json: bool, verbose: bool) -> None:
        self.json, self.verbose = json, verbose
        self.exit_code = 0
        self._progress: Any = None
        if verbose:
            logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s: %(message)s")

    def __enter__(self) -> Session:
        return self

    def progress(self, words: str, done: int, total: int) -> None:
        """Show that `done` of `total` things are behind us: a bar on a terminal, nothing elsewhere."""
        if self._progress is None:
            from tledge.cli.progress import quiet, show

            self._progress = quiet() if self.json or not _interactive() else show(sys.stderr)
        self._progress(words, done, total)

    def show(self, document: Any, render: Callable[[Any, Any], None]) -> None:
        """Print `document`: as JSON, or through `render(document, console)`."""
        self._close()
        if self.json:
            sys.stdout.write(documents.to_json(document))
            return
        from rich.console import Console

        plain = not _interactive()
        render(
            document, Console(highlight=False, no_color=plain, soft_wrap=True, force_terminal=False if plain else None)
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if error is None:
            sys.stdout.flush()
            raise typer.Exit(self.exit_code)
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again at exit
            raise typer.Exit(_BROKEN_PIPE)
        if isinstance(error, KeyboardInterrupt):
            self._say("Interrupted. What was extracted is kept; run it again to go on from there.", _INTERRUPTED)
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
            error = OutputError(
                f"{error.filename or 'A file'} cannot be used: {error.strerror}.", "Check space and rights."
            )
        if isinstance(error, TledgeError):
            if self.verbose:
                logging.getLogger("tledge").info("traceback", exc_info=error)
            self._say(f"error: {error}", error.exit_code, error)

    def _say(self, line: str, exit_code: int, error: TledgeError | None = None) -> None:
        sys.stderr.write(printable(" ".join(line.split())) + "\n")
        if self.json and error:
            kind = "check_failed" if isinstance(error, CheckFailed) else "bad_input"
            said = {"kind": kind, "message": error.message, "hint": error.hint, "exit_code": exit_code}
            sys.stdout.write(documents.dumps({"error": said}))
        raise typer.Exit(exit_code)

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None


def run_app(app: typer.Typer) -> None:
    """Run `app` on the process's arguments, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
    app()


def printable(text: str) -> str:
    """Return `text` without control characters, which a file name could use to write all over a terminal."""
    return "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in text)


def _interactive() -> bool:
    quiet = "NO_COLOR" in os.environ or "CI" in os.environ
    return sys.stdout.isatty() and not quiet
