"""`tledge listen`: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from tledge.cli.options import Json, Model, Provider, Verbose
from tledge.cli.session import Session

app = typer.Typer()
_INTERRUPTED = 130


@app.command()
def listen(
    model: Model,
    input: Annotated[
        str, typer.Option("--input", "-i", help="A sound file; - is raw samples on standard input.", metavar="FILE|-")
    ],
    hop: Annotated[float | None, typer.Option(help="Seconds between windows [a twelfth of one].")] = None,
    smooth: Annotated[int, typer.Option(help="How many windows a score is averaged over.")] = 3,
    on: Annotated[float | None, typer.Option(help="The score at which an event begins [the model's, or 0.5].")] = None,
    off: Annotated[float | None, typer.Option(help="The score below which it ends [0.6 of --on].")] = None,
    min_seconds: Annotated[float, typer.Option(help="Leave out events that are shorter.")] = 0.0,
    label: Annotated[list[str] | None, typer.Option(help="Listen for this class only; may be given again.")] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="A class that is no event, such as background; may be given again.")
    ] = None,
    rate: Annotated[int | None, typer.Option(help="Raw samples a second [the model's].")] = None,
    channels: Annotated[int | None, typer.Option(help="Channels of raw samples, interleaved [1].")] = None,
    encoding: Annotated[str | None, typer.Option(help="Raw samples: s16le or f32le [s16le].")] = None,
    provider: Provider = "auto",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say when which class is heard in a recording or a live stream.

    A line when an event begins and one when it ends; with --json one document when the stream ends. Ctrl-C ends it.
    """
    with Session(json, verbose) as session:
        from tledge.cli import render_listen
        from tledge.commands.listen import listen as command

        result = command(
            model,
            input,
            hop=hop,
            smooth=smooth,
            on=on,
            off=off,
            min_seconds=min_seconds,
            labels=label or (),
            ignore=ignore or (),
            rate=rate,
            channels=channels,
            encoding=encoding,
            provider=provider,
            on_event=None if json else lambda event: session.show(event, render_listen.event),
            on_note=session.note,
        )
        session.show(result, render_listen.listen)
        session.exit_code = _INTERRUPTED if result.interrupted else 0
