"""Commands whose names are two words, beside a command whose name is the first of them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class TwoWords(TyperGroup):
    """Take 'bench history' for the command of that name, and 'bench' with anything else behind it for 'bench'.

    A file that is called history can be named ./history.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the command and the arguments that are left."""
        name = " ".join(args[:2])
        if len(args) > 1 and name in self.commands:
            return name, self.commands[name], args[2:]
        return super().resolve_command(ctx, args)
