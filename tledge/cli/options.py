"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, and nothing else there.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error; keep tracebacks.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is already there.")]
Provider = Annotated[
    str,
    typer.Option(help="Where onnxruntime runs: cpu, cuda, tensorrt or auto; cuda,cpu lets nodes go on to the cpu."),
]
Model = Annotated[
    Path, typer.Argument(help="A model file made by 'tledge export' or 'tledge train'.", metavar="M.onnx")
]
Data = typer.Argument(
    help="A folder of samples (class/… or train|val|test/class/…), a table (CSV, JSONL, Parquet), .npz, MNIST, CIFAR.",
    metavar="DATA",
)
Strict = Annotated[bool, typer.Option("--strict", help="A file that cannot be used is an error, not a note.")]
