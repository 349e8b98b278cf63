"""The commands and their options. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

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
    help="A folder of pictures (class/… or train|val|test/class/…), a CSV or JSONL file, .npz, MNIST or CIFAR files.",
    metavar="DATA",
)
Strict = Annotated[bool, typer.Option("--strict", help="A file that cannot be used is an error, not a note.")]


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


def _schema(wanted: bool) -> None:
    if wanted:
        from tledge import documents
        from tledge.commands.bench_schema import bench_schema

        typer.echo(documents.dumps(bench_schema()), nl=False)
        raise typer.Exit


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
    input_size: Annotated[int | None, typer.Option(help="The side of the backbone's input in pixels.")] = None,
    pool: Annotated[
        str | None, typer.Option(help="How a map of features becomes a vector: avg, max or flatten.")
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
    augment: Annotated[
        str | None, typer.Option(help="Add augmented views of the training pictures: flip, flips, light or rand.")
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
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.compare import compare
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
        float, typer.Option(help="Fail when the model agrees with the float model on fewer test pictures, in percent.")
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
    with Session(json, verbose) as session:
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
    """Measure a model file on labelled pictures."""
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.evaluate import evaluate as command

        result = command(model, data, provider=provider, strict=strict, on_progress=session.progress)
        session.show(result, render.evaluate)


@app.command()
def predict(
    model: Model,
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.", metavar="PATH…")],
    provider: Provider = "auto",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say what is on pictures. Exits 2 when one of them cannot be read, after predicting the others."""
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.predict import predict as command

        result = command(model, paths, provider=provider, on_progress=session.progress)
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
def bench(
    model: Model,
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="single_stream, multi_stream, server, offline; the first and the last by default."),
    ] = None,
    provider: Provider = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads inside onnxruntime; one per core by default.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="About how long to measure [10; for a sweep 2 per setting, 10 to 120].")
    ] = None,
    samples_per_query: Annotated[int, typer.Option(help="How many samples a query of multi_stream holds.")] = 8,
    latency_bound_ms: Annotated[
        float | None,
        typer.Option(help="What p99 of server has to keep [5 times the median of one sample, 1 ms at least]."),
    ] = None,
    mlperf: Annotated[
        bool, typer.Option("--mlperf", help="Measure as long as MLPerf's rules ask: 10 minutes a scenario.")
    ] = False,
    mlperf_logs: Annotated[
        Path | None, typer.Option(help="A new folder for the logs of MLCommons' LoadGen.", metavar="DIR")
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", help="Samples to feed: an array for each input, rows are samples.", metavar="FILE.npz"),
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Another model file, or the JSON of an earlier bench.")] = None,
    max_regression: Annotated[str, typer.Option(help="How much slower is too slow, like 5%.")] = "5%",
    sweep: Annotated[
        str | None,
        typer.Option(
            help="Compare settings instead: threads, batch, precision, provider, preset, as in threads,batch=1:8.",
            metavar="AXES",
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the sweep and its Pareto front.", metavar="FILE.svg")] = None,
    p99: Annotated[bool, typer.Option("--p99", help="Judge the 99th percentile too.")] = False,
    allow_other_machine: Annotated[
        bool, typer.Option("--allow-other-machine", help="Compare with a baseline that another machine wrote.")
    ] = False,
    end_to_end: Annotated[
        bool, typer.Option("--end-to-end", help="Also time picture file → decode → resize → run → label, each apart.")
    ] = False,
    pictures: Annotated[
        Path | None, typer.Option(help="The picture or folder for --end-to-end; drawn JPEGs by default.")
    ] = None,
    cold_start: Annotated[
        bool, typer.Option("--cold-start", help="Also time from the start of a process to its first result.")
    ] = False,
    resources: Annotated[
        bool, typer.Option("--resources", help="Also measure memory, processor time in use and idle, and energy.")
    ] = False,
    max_p50_ms: Annotated[float | None, typer.Option(help="Budget: median latency of one sample.")] = None,
    max_p99_ms: Annotated[float | None, typer.Option(help="Budget: latency of one sample at p99.")] = None,
    min_throughput: Annotated[float | None, typer.Option(help="Budget: samples per second offline.")] = None,
    max_memory_mb: Annotated[float | None, typer.Option(help="Budget: peak resident memory of a process.")] = None,
    max_cold_start_ms: Annotated[float | None, typer.Option(help="Budget: process start to first result.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the JSON document here, for --against later.")] = None,
    label: Annotated[str | None, typer.Option(help="What was measured [the commit, where a CI tells it].")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the checks here as JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a summary for a pull request here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with diagrams here.")] = None,
    history: Annotated[Path | None, typer.Option(help="Folder of saved documents whose trend the page shows.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", callback=_schema, is_eager=True, help="Print the JSON document's JSON Schema.")
    ] = False,
    force: Force = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure latency and throughput of any ONNX file here.

    Exits 1 when a budget does not hold, or the model is slower than --against, and 3 when that cannot be told.
    'tledge bench history DIR' draws what many of them saved.
    """
    with Session(json, verbose) as session:
        from tledge.cli import render_bench, render_sweep
        from tledge.commands.bench import BY_DEFAULT
        from tledge.commands.bench import bench as command

        result = command(
            model,
            scenarios=scenario or BY_DEFAULT,
            provider=provider,
            threads=threads,
            seconds=seconds,
            samples_per_query=samples_per_query,
            latency_bound_ms=latency_bound_ms,
            mlperf=mlperf,
            mlperf_logs=mlperf_logs,
            input_file=input_file,
            against=against,
            max_regression=_share(max_regression),
            sweep=sweep,
            plot=plot,
            p99=p99,
            allow_other_machine=allow_other_machine,
            end_to_end=end_to_end,
            pictures=pictures,
            cold_start=cold_start,
            resources=resources,
            max_p50_ms=max_p50_ms,
            max_p99_ms=max_p99_ms,
            min_throughput=min_throughput,
            max_memory_mb=max_memory_mb,
            max_cold_start_ms=max_cold_start_ms,
            save=save,
            label=label,
            junit=junit,
            markdown=markdown,
            html=html,
            history=history,
            force=force,
            on_progress=session.progress,
        )
        session.show(result, render_sweep.sweep if result.sweep else render_bench.bench)
        for path in filter(None, (save, junit, markdown, html)):
            session.note(f"Written: {path}")
        session.exit_code = _bench_code(result)


def _bench_code(result: Any) -> int:
    """Return 1 when something does not hold; that nothing could be told comes after that."""
    outcome = result.verdict.outcome if result.verdict else "pass"
    if any(not budget.holds for budget in result.budgets):
        return 1
    return {"pass": 0, "regression": 1, "inconclusive": 3}[outcome]


@app.command("bench history")
def bench_history(
    folder: Annotated[Path, typer.Argument(help="JSON documents of 'tledge bench', at any depth.", metavar="DIR")],
    html: Annotated[Path | None, typer.Option(help="Write a page with diagrams here.")] = None,
    force: Force = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show the documents of many benches over time, and between which of them figures changed."""
    with Session(json, verbose) as session:
        from tledge.cli import render_history
        from tledge.commands.bench_history import bench_history as command

        session.show(command(folder, html=html, force=force), render_history.history)


def _share(text: str) -> float:
    from tledge.errors import TledgeError

    number = text.strip().removesuffix("%")
    try:
        return float(number) / (100 if number != text.strip() else 1)
    except ValueError as error:
        raise TledgeError(f"A share must be a number like 5% or 0.05, got '{text}'.") from error


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
    max_size: Annotated[str, typer.Option("--max-size", help="What the feature vectors may take: 500M, 2G, 0.")],
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Drop the least recently used feature vectors until the rest fits."""
    with Session(json, verbose) as session:
        from tledge.cli import render
        from tledge.commands.cache import cache_prune as command

        session.show(command(max_size), render.cache)
