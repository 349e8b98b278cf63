"""`tledge bench` and `tledge bench history`: their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tledge.cli.options import Force, Json, Provider, Verbose
from tledge.cli.session import Session

app = typer.Typer()


def _schema(wanted: bool) -> None:
    if wanted:
        from tledge import documents
        from tledge.commands.bench_schema import bench_schema

        typer.echo(documents.dumps(bench_schema()), nl=False)
        raise typer.Exit


_NOT_MEASURING = {"scenario", "max_regression", "schema", "json", "verbose"}


@app.command()
def bench(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="Any ONNX file, of tledge's or not.", metavar="M.onnx")],
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
        bool,
        typer.Option("--end-to-end", help="Also time all stages from the bytes of a file to its label, each apart."),
    ] = False,
    samples: Annotated[
        Path | None,
        typer.Option("--samples", "--pictures", help="The file or folder for --end-to-end; made up by default."),
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
    with Session(json, verbose, "No result was saved.") as session:
        from tledge.cli import render_bench, render_sweep
        from tledge.commands.bench import BY_DEFAULT
        from tledge.commands.bench import bench as command

        given = {name: value for name, value in context.params.items() if name not in _NOT_MEASURING}
        asked = {"scenarios": scenario or BY_DEFAULT, "max_regression": _share(max_regression)}
        result = command(**given, **asked, on_progress=session.progress)
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
