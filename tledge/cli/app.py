"""The commands and their options. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tledge.cli import bench, listen
from tledge.cli.options import Data, Force, Json, Model, Provider, Strict, Verbose
from tledge.cli.session import Session, run_app
from tledge.cli.two_words import TwoWords

app = typer.Typer(
    name="tledge",
    cls=TwoWords,
    help="From a folder of labelled photos to a verified, quantized model file on an edge box.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache = typer.Typer(help="See, check and trim what tledge keeps.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cache, name="cache")
app.add_typer(bench.app)
app.add_typer(listen.app)


def main() -> None:
    """Run the command line and exit with its code."""
    run_app(app)


def _version(wanted: bool) -> None:
    if wanted:
        from tledge import __version__

        typer.echo(f"tledge {__version__}")
        raise typer.Exit


@app.callback()
def _tledge(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"numbers with commas between them are wanted, got '{text}'.") from error


def _widths(text: str) -> tuple[int, ...]:
    message = f"whole numbers like 1024,512 are wanted (0 for none), got '{text}'."
    try:
        widths = [int(each) for each in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(message) from error
    if min(widths) < 0:
        raise typer.BadParameter(message)
    return tuple(width for width in widths if width)


_EXTRACTED = "What was extracted is kept; run it again to go on from there."
_NOT_TRAINING = {"out", "config", "force", "json", "verbose"}


@app.command()
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder to make.")],
    data: Annotated[Path | None, Data] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Frozen network: a name of 'tledge backbones', a .keras, .h5 or .onnx file, or none; a,b,c compares."
        ),
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="linear, binary, multilabel, centroid, mlp, svm or forest [by the data].")
    ] = None,
    test_data: Annotated[Path | None, typer.Option(help="Samples to test on, instead of holding some out.")] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="The share to hold out when no test samples are given [0.2].")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the held-out samples and the folds [0].")] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Keep samples of a group on one side of the split: a column's name, or a regular expression on paths."
        ),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Also cross-validate in this many folds.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A run.json whose data and options are taken; options here win.")
    ] = None,
    input_size: Annotated[int | None, typer.Option(help="The backbone's input: the side in pixels, or tokens.")] = None,
    pool: Annotated[
        str | None, typer.Option(help="How a map of features becomes a vector: avg, max, flatten; cls of texts.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="imagenet, none (random) or a Keras weights file.")] = None,
    feature: Annotated[
        str | None,
        typer.Option(
            "--feature-layer",
            "--feature-node",
            help="Take the output of this layer (Keras) or node (ONNX) as features.",
        ),
    ] = None,
    mean: Annotated[
        Any,
        typer.Option(
            parser=_numbers,
            metavar="NUMBERS",
            help="What a network of your own subtracts, in 0..255 pixel units: 127.5 or 123.7,116.3,103.5.",
        ),
    ] = None,
    std: Annotated[Any, typer.Option(parser=_numbers, metavar="NUMBERS", help="What it divides by then.")] = None,
    channel_order: Annotated[
        str | None, typer.Option(help="The order of channels it was trained on: rgb or bgr.")
    ] = None,
    window_s: Annotated[
        float | None, typer.Option("--window", metavar="SECONDS", help="How much of a sound the backbone takes [1.5].")
    ] = None,
    hop_s: Annotated[
        float | None,
        typer.Option("--hop", metavar="SECONDS", help="Cut longer sounds into windows so far apart, decided together."),
    ] = None,
    fit: Annotated[
        str | None, typer.Option(help="Where a shorter sound stands, and what is taken of a longer one: centre, start.")
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            help="Add augmented views of the training samples: flip, flips, light or rand of pictures; shift, gain, "
            "noise:DIR@10dB of sounds, or several of these with a +."
        ),
    ] = None,
    views: Annotated[int | None, typer.Option(help="How many views of each [1].")] = None,
    unfreeze: Annotated[
        str | None, typer.Option(help="Fine-tune the backbone: its top N layers, from LAYER up, or all.")
    ] = None,
    train_batch_norm: Annotated[
        bool | None, typer.Option("--train-batch-norm", help="Fine-tune the statistics of batch normalisation too.")
    ] = None,
    class_weight: Annotated[
        str | None,
        typer.Option(help="balanced, none, or auto: balanced when classes differ by more than 3 times [none]."),
    ] = None,
    positive: Annotated[str | None, typer.Option(help="The class that a binary head is about.")] = None,
    hidden: Annotated[
        Any, typer.Option(parser=_widths, metavar="WIDTHS", help="Widths of an mlp's layers: 1024,512; 0 for none.")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Share of an mlp's units that are left out in training.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adam, where Keras trains.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Where Keras trains.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Where Keras trains.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Where Keras trains.")] = None,
    provider: Annotated[
        str | None, typer.Option(help="Where onnxruntime runs: cpu, cuda (or cuda,cpu), tensorrt or auto [auto].")
    ] = None,
    strict: Annotated[bool | None, typer.Option("--strict", help="A file that cannot be used is an error.")] = None,
    force: Force = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a head on the samples in DATA, and write a run folder with a model, figures and a report."""
    with Session(json, verbose, _EXTRACTED) as session:
        from tledge.cli import render
        from tledge.commands.train import replay
        from tledge.commands.train import train as command
        from tledge.errors import TledgeError

        given = {key: value for key, value in context.params.items() if key not in _NOT_TRAINING and value is not None}
        arguments = {**(replay(config) if config else {}), **given}
        if "data" not in arguments:
            raise TledgeError("Data must be named, found none.", "Type 'tledge train DATA --out RUN'.")
        source, names = arguments.pop("data"), (arguments.get("backbone") or "").split(",")
        listening = {"force": force, "on_progress": session.progress, "on_note": session.note}
        if len(names) > 1:
            from tledge.commands.compare import compare

            arguments.pop("backbone")
            several = [name for name in names if name]
            session.show(compare(source, out, backbones=several, **arguments, **listening), render.compare)
        else:
            session.show(command(source, out, **arguments, **listening), render.train)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder made by 'tledge train'.", metavar="RUN")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file to write, or the folder of a layout.")],
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, int8, or auto for the fastest here; keras writes a .keras file.")
    ] = "int8",
    layout: Annotated[
        str,
        typer.Option(help="file; triton makes a model repository, onnxruntime-web a folder with a page for browsers."),
    ] = "file",
    max_drop: Annotated[float | None, typer.Option(help="Fail when accuracy drops by more points than this.")] = None,
    max_error_ratio: Annotated[
        float | None, typer.Option(help="Fail when errors become more than this many times those of the float model.")
    ] = None,
    max_class_drop: Annotated[
        float | None, typer.Option(help="Fail when the recall of any class drops by more points than this.")
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(help="Fail when the file is larger: 4000000, 500K, 4M.", metavar="SIZE")
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Fail when one sample takes longer here, as a median in ms.")
    ] = None,
    calibration: Annotated[
        str,
        typer.Option(help="How int8 ranges are chosen: minmax, percentile, entropy, mse, or auto for the best."),
    ] = "auto",
    per_tensor: Annotated[
        bool, typer.Option("--per-tensor", help="One scale for all weights of a layer, for NPUs that need it.")
    ] = False,
    reduce_range: Annotated[
        bool | None,
        typer.Option(
            "--reduce-range/--no-reduce-range", help="int8 weights of 7 bits, for x86 without VNNI [by this machine]."
        ),
    ] = None,
    min_agreement: Annotated[
        float, typer.Option(help="Fail when the model agrees with the float model on fewer test samples, in percent.")
    ] = 95.0,
    target: Annotated[
        str, typer.Option(help="Where the file will run: any, cpu, cuda, tensorrt or jetson; refused if it cannot.")
    ] = "any",
    graph_input: Annotated[
        str,
        typer.Option("--input", help="tensor: pixels at the model's size; image: of any size, resized in the graph."),
    ] = "tensor",
    batch: Annotated[
        int | None, typer.Option(help="Fix how many samples the graph takes at once [any number].")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Where onnxruntime runs the backbone; as in training by default.")
    ] = None,
    force: Force = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write the model of RUN to one file, quantized if asked for, after comparing it with the float model.

    Where int8 is too far from it, the fewest layers that mend it stay in float; that takes several tries.
    Exits 1 and writes nothing when it may not be so far from the float model.
    """
    with Session(json, verbose, _EXTRACTED) as session:
        from tledge.cli import render
        from tledge.commands.export import export as command
        from tledge.errors import CheckFailed

        try:
            result = command(
                run,
                out,
                precision=precision,
                layout=layout,
                min_agreement=min_agreement / 100,
                max_drop=max_drop,
                max_error_ratio=max_error_ratio,
                max_class_drop=max_class_drop,
                max_bytes=max_bytes,
                max_latency_ms=max_latency_ms,
                calibration=calibration,
                per_tensor=per_tensor,
                reduce_range=reduce_range,
                target=target,
                input=graph_input,
                batch=batch,
                provider=provider,
                force=force,
                on_progress=session.progress,
                on_note=session.note,
            )
        except CheckFailed as failed:
            if failed.measured and not json:  # the JSON document holds it beside the error
                session.show(failed.measured, render.comparison)
            raise
        session.show(result, render.export)


@app.command()
def evaluate(
    model: Model,
    data: Annotated[Path, Data],
    provider: Provider = "auto",
    strict: Strict = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure a model file on labelled samples."""
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.evaluate import evaluate as command

        result = command(model, data, provider=provider, strict=strict, on_progress=session.progress)
        session.show(result, render.evaluate)


@app.command()
def predict(
    model: Model,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files, folders of them, tables (CSV, JSONL, Parquet, .npz); - reads texts.", metavar="PATH…"
        ),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text; may be given several times.")] = None,
    lines: Annotated[
        Path | None, typer.Option(help="A file each line of which is a text; - is standard input.", metavar="FILE")
    ] = None,
    provider: Provider = "auto",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say of what class samples are. Exits 2 when one of them cannot be read, after predicting the others."""
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.predict import predict as command

        told = {"provider": provider, "on_progress": session.progress}
        result = command(model, paths or [], texts=text or [], lines=lines, **told)
        session.show(result, render.predict)
        if result.skipped:
            session.exit_code = 2


@app.command()
def sign(
    model: Model,
    key: Annotated[Path, typer.Option(help="Your private key: elliptic curve, PEM.", metavar="PRIVATE.pem")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The signature to write [M.onnx.sig].")] = None,
    force: Force = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Sign a model file, so that others can tell with your public key that it is yours and unchanged."""
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.sign import sign as command

        session.show(command(model, key, out=out, force=force), render.sign)


@app.command()
def verify(
    model: Model,
    key: Annotated[
        Path | None, typer.Option(help="Check the signature too, with this public key.", metavar="PUBLIC.pem")
    ] = None,
    signature: Annotated[Path | None, typer.Option(help="Where the signature is [M.onnx.sig].")] = None,
    provider: Provider = "auto",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Check a model file's digest, and that this machine computes what the exporting machine did. Exits 1 if not."""
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.verify import verify as command

        result = command(model, key=key, signature=signature, provider=provider)
        session.show(result, render.verify)
        if not result.passed:
            session.exit_code = 1


@app.command()
def backbones(json: Json = False, verbose: Verbose = False) -> None:
    """List the networks that can be trained on, and whether their weights are here."""
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.backbones import list_backbones as command

        session.show(command(), render.backbones)


@app.command()
def doctor(json: Json = False, verbose: Verbose = False) -> None:
    """Look at this installation and say what to mend. Exits 1 when there is something."""
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.doctor import doctor as command

        result = command()
        session.show(result, render.doctor)
        session.exit_code = 0 if result.passed else 1


@cache.command("info")
def cache_info(json: Json = False, verbose: Verbose = False) -> None:
    """Say what the cache holds."""
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.cache import cache_info as command

        session.show(command(), render.cache)


@cache.command("verify")
def cache_verify(json: Json = False, verbose: Verbose = False) -> None:
    """Check every kept feature vector and drop damaged ones. Exits 1 when there were any."""
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.cache import cache_verify as command

        result = command()
        session.show(result, render.cache)
        session.exit_code = 1 if result.dropped else 0


@cache.command("prune")
def cache_prune(
    max_size: Annotated[str, typer.Option("--max-size", help="What all of these may take: 500M, 2G, 0.")],
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Drop the least recently used feature vectors, int8 and fp16 graphs and TensorRT engines until the rest fits.

    All are made again when they are needed. Do not prune while something runs that has just made them.
    """
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.cache import cache_prune as command

        session.show(command(max_size), render.cache)
