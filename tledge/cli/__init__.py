"""The command line: parse, call one library function, render. The only code that prints or exits."""

from tledge.cli.app import main

__all__ = ["main"]
