"""The command line: parse, call one library function, render. The only code that prints or exits."""

import gc
import signal
import sys

_INTERRUPTED = 130
# Most of what a command allocates is modules, which stay: searching them for cycles took a tenth of a short training.
_FEW_COLLECTIONS = 50_000


def main() -> None:
    """Run the command line and exit with its code. A signal to stop unwinds, so that nothing half-written is left."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup's wish is not overruled
            signal.signal(number, _stop)
    gc.set_threshold(_FEW_COLLECTIONS)
    try:
        from tledge.cli.app import app
        from tledge.cli.session import run_app

        run_app(app)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    finally:
        gc.freeze()  # nothing is left to find for the interpreter's last search


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)


__all__ = ["main"]
