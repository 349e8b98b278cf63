"""The command line as a user and a script meet it: documents, exit codes, what is overwritten, signals, terminals."""

from __future__ import annotations

import csv
import json
import os
import platform
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from conftest import make_photos
from typer.testing import CliRunner, Result

import tledge
from tledge.cli.app import app

TLEDGE = [sys.executable, "-m", "tledge"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str | Path) -> Result:
    """Run a command in this process; an exception that is not an exit is a bug, and raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def document(*arguments: str | Path, code: int = 0) -> Any:
    """Run a command with --json; standard output must be one JSON document and nothing else."""
    result = invoke(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def started(*arguments: str | Path, **more: Any) -> subprocess.Popen[str]:
    """Start a command as a process of its own, one that Ctrl-C stops even where these tests run in the background."""
    command = [*TLEDGE, *map(str, arguments)]
    listening = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listening, **more
    )


# ── The contract of --json ───────────────────────────────────────────────────────────────────────────────────────────


def test_train_document(photos: Path) -> None:
    found = document("train", photos, "--out", "new/deep/run", "-v")
    assert found["run"] == "new/deep/run" and Path(found["model"]).stat().st_size == found["bytes"]
    assert (found["backbone"], found["head"], found["classes"]) == (
        "efficientnet_lite0",
        "linear",
        ["cat", "dog", "owl"],
    )
    assert found["samples"] == {"train": 30, "val": 0, "test": 6}
    assert found["cache"]["hits"] + found["cache"]["misses"] == 36
    assert {"extract", "fit", "total"} <= found["seconds"].keys() and found["threads"] == len(os.sched_getaffinity(0))
    assert {"accuracy", "macro_f1", "macro_recall", "per_class", "confusion"} <= found["metrics"].keys()
    assert json.loads(Path("new/deep/run/run.json").read_text()) == found
    held = {"run.json", "model.onnx", "head.npz", "predictions.csv", "report.html"}
    assert {file.name for file in Path("new/deep/run").iterdir()} == held


def test_export_document(run: Path) -> None:
    found = document("export", run, "--precision", "fp32", "--out", "m.onnx", "-v")
    assert found["model"] == "m.onnx" and found["bytes"] == Path("m.onnx").stat().st_size
    assert found["precision"] == "fp32" and found["accuracy"].keys() == {"before", "after"}
    assert found["errors"]["before"] == found["errors"]["after"] and found["errors"]["ratio"] == 1
    assert [each["drop"] for each in found["classes"]] == [0, 0, 0]
    assert found["parity"]["samples"] == 6 and found["parity"]["passed"]
    assert {"agreement", "max_abs_diff"} <= found["parity"].keys()


def test_documents_about_a_model(int8_model: Path, photos: Path) -> None:
    picture = photos / "cat" / "000.jpg"
    (prediction,) = document("predict", int8_model, picture, "-v")["predictions"]
    assert prediction["path"] == str(picture) and prediction["label"] == "cat"
    assert prediction["probability"] == prediction["probabilities"]["cat"]
    assert document("evaluate", int8_model, photos, "-v")["metrics"]["confusion"][0][0] == 12
    checked = document("verify", int8_model, "-v")
    assert checked["passed"] and len(checked["digest"]) == 64
    assert {"samples", "max_abs_diff", "flips"} <= checked["golden"].keys()


def test_bench_document(int8_model: Path) -> None:
    found = document("bench", int8_model, "--seconds", "0.2", "--save", "base.json", "-v")
    assert found["schema_version"] == 1 and found["model"] == str(int8_model) and found["verdict"] is None
    assert {"p50_ms", "p90_ms", "p99_ms"} <= found["scenarios"]["single_stream"].keys()
    assert found["scenarios"]["offline"]["samples_per_second"] > 0 and found["machine"]["cores"] > 0
    assert json.loads(Path("base.json").read_text()) == found


def foreign(path: Path, dims: list[Any], sines: int = 0) -> Path:
    """Write an ONNX file that none of ours wrote: floats of `dims` in, twice as much out, or its sine's sine's sine."""
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in "xy")
    names = [f"sine {i}" for i in range(sines)] + ["y"]
    nodes = [helper.make_node("Add", ["x", "x"], names[:1])]
    nodes += [helper.make_node("Sin", [names[i]], [names[i + 1]]) for i in range(sines)]
    graph = helper.make_graph(nodes, "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.skipif(platform.machine() != "x86_64", reason="LoadGen has no wheel for this processor")
def test_bench_measures_all_scenarios_of_any_file() -> None:
    # Long enough that what passes a sample to the model takes no part of it to speak of, on however busy a machine.
    model = foreign(Path("any.onnx"), ["batch", "sequence"], sines=200)
    every = [word for name in ("single_stream", "multi_stream", "server", "offline") for word in ("--scenario", name)]
    options = ("--seconds", "2", "--samples-per-query", "3", "--latency-bound-ms", "1000", "--mlperf-logs", "logs")
    found = document("bench", model, *every, *options)
    assert found["assumed"] == ["sequence = 128"] and found["input"] is None
    assert found["warm_up"]["runs"] == found["warmup_runs"]
    scenarios = found["scenarios"]
    assert scenarios["multi_stream"]["samples_per_query"] == 3 and scenarios["multi_stream"]["p99_ms"] > 0
    assert scenarios["server"]["latency_bound_ms"] == 1000 and scenarios["server"]["queries_per_second"] > 0
    single = scenarios["single_stream"]
    assert sum(single["histogram"]["counts"]) == single["samples"] and single["timeline"]
    for each in scenarios.values():
        assert each["validity"]["loadgen"] and each["validity"]["valid"] in (True, False)
    assert {"SingleStream", "MultiStream", "Offline"} < {place.name for place in Path("logs").iterdir()}
    shown = invoke("bench", model, *every, "--seconds", "1", "--latency-bound-ms", "1000").stdout
    assert "samples/s within a p99 of" in shown and "multi stream of 8 p99" in shown
    assert "VALID (LoadGen" in shown and "Assumed: sequence = 128" in shown


def test_bench_without_loadgen_says_what_it_lacks(int8_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    both = ("--scenario", "single_stream", "--scenario", "multi_stream")
    found = document("bench", int8_model, "--seconds", "0.3", *both)
    for each in found["scenarios"].values():
        assert each["validity"]["valid"] is None and "LoadGen" in each["validity"]["reason"]
    for option in (["--scenario", "server"], ["--mlperf"], ["--mlperf-logs", "logs"]):
        result = invoke("bench", int8_model, *option)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "tledge[bench]" in result.stderr
    assert not any(Path().iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scenario", "sever"), "Did you mean server?"),
        (("--samples-per-query", "0"), "Samples per query must be between 1 and 4096"),
        (("--latency-bound-ms", "0"), "The latency bound must be above 0"),
        (("--latency-bound-ms", "nan"), "The latency bound must be above 0"),
        (("--input", "gone.npz"), "gone.npz cannot be read"),
        (("--input", "wrong.npz"), "input 'x' takes float values, found float64"),
        (("--input", "other.npz"), "holds 'z', which is no input"),
        (("--mlperf-logs", "taken"), "taken"),
        (("--provider", "cuda"), "not active"),
    ],
    ids=str,
)
def test_bench_refuses_in_one_line(options: tuple[str, ...], message: str) -> None:
    model = foreign(Path("any.onnx"), ["N", 4])
    np.savez("wrong.npz", x=np.ones((2, 4)))
    np.savez("other.npz", z=np.ones((2, 4), np.float32))
    Path("taken").mkdir()
    Path("taken", "file").write_text("")
    result = invoke("bench", model, "--seconds", "0.1", *options)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and message in result.stderr


def test_bench_feeds_samples_of_ones_own() -> None:
    model = foreign(Path("any.onnx"), ["batch", "sequence"])
    np.savez("own.npz", x=np.ones((5, 7), np.float32))
    against = ("--against", model, "--max-regression", "1000%")
    found = document("bench", model, "--seconds", "0.3", "--input", "own.npz", *against)
    assert found["input"] == "own.npz" and found["assumed"] == [] and found["verdict"]


@pytest.mark.parametrize("command", ["backbones", "doctor", "cache info", "cache verify", "cache prune --max-size 1T"])
def test_documents_about_the_machine(command: str) -> None:
    assert document(*command.split(), "-v")["schema_version"] == 1


def test_every_command_is_shown_to_people_too(int8_model: Path, run: Path, photos: Path) -> None:
    picture = photos / "owl" / "000.jpg"
    for arguments, said in [
        (("train", photos, "--out", "r"), "tledge export r --precision int8"),
        (("export", run, "--precision", "fp32", "--out", "m.onnx"), "tledge bench m.onnx"),
        (("predict", int8_model, picture), "owl"),
        (("evaluate", int8_model, photos), "accuracy"),
        (("verify", int8_model), "computes what it should"),
        (("bench", int8_model, "--seconds", "0.1", "--scenario", "offline"), "samples/s at batch"),
        (("backbones",), "efficientnet_lite1"),
        (("cache", "info"), "converted backbones"),
        (("doctor",), "onnxruntime"),
    ]:
        result = invoke(*arguments)
        assert result.exit_code == 0 and said in result.stdout
        assert "\x1b" not in result.output, arguments
        assert result.stderr.count("\n") == (arguments[0] == "train"), arguments


def test_verbose_tells_the_stages_on_standard_error(photos: Path) -> None:
    result = invoke("train", photos, "--out", "r", "-v")
    assert "Reading files" in result.stderr and "Reading files" not in result.stdout


# ── Exit codes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_check_exits_1_and_leaves_no_file(run: Path) -> None:
    found = document("export", run, "--precision", "fp32", "--out", "m.onnx", "--max-drop", "-5", code=1)
    assert found["error"]["kind"] == "check_failed" and found["error"]["exit_code"] == 1
    assert not any(Path().iterdir())


def test_a_failed_budget_shows_the_figures_that_failed_it(run: Path) -> None:
    arguments = ("export", run, "--precision", "fp32", "--out", "m.onnx", "--max-class-drop", "-1")
    found = document(*arguments, code=1)
    assert "--max-class-drop" in found["error"]["message"] and "No file was written" in found["error"]["message"]
    assert found["accuracy"]["before"] == found["accuracy"]["after"]
    assert found["errors"].keys() == {"before", "after", "ratio"} and found["errors"]["ratio"] == 1
    assert {each["name"] for each in found["classes"]} == {"cat", "dog", "owl"}
    assert found["classes"][0].keys() == {"name", "recall_before", "recall_after", "drop"}
    shown = invoke(*arguments)
    assert shown.exit_code == 1 and "fp32 against float" in shown.stdout and "recall of" in shown.stdout
    assert shown.stderr.count("\n") == 1 and not any(Path().iterdir())


@pytest.mark.parametrize("option", ["--max-error-ratio=-1", "--max-error-ratio=nan", "--max-class-drop=inf"])
def test_budgets_that_mean_nothing_are_refused(option: str, run: Path) -> None:
    result = invoke("export", run, "--out", "m.onnx", option)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "must be a number" in result.stderr


def test_bench_exits_as_its_verdict_says(int8_model: Path) -> None:
    measured = document("bench", int8_model, "--seconds", "0.5", "--scenario", "single_stream")

    def against(factor: float, machine: str | None = None) -> int:
        base = json.loads(json.dumps(measured))
        for key in ("ratio", "low", "high"):
            base["reference"][key] = measured["reference"]["ratio"] * factor
        base["machine"]["cpu"] = machine or base["machine"]["cpu"]
        Path("base.json").write_text(json.dumps(base))
        return invoke(
            "bench", int8_model, "--seconds", "2", "--scenario", "single_stream", "--against", "base.json"
        ).exit_code

    assert against(1000) == 0
    assert against(0.001) == 1
    assert against(1, machine="another processor") == 3


def test_predict_goes_on_after_a_picture_that_cannot_be_read_and_exits_2(int8_model: Path, photos: Path) -> None:
    found = document("predict", int8_model, "gone.jpg", photos / "dog" / "001.png", code=2)
    assert [problem["path"] for problem in found["skipped"]] == ["gone.jpg"]
    assert [prediction["label"] for prediction in found["predictions"]] == ["dog"]


def test_usage_errors_exit_2_and_leave_standard_output_alone(int8_model: Path) -> None:
    for arguments in (["train"], ["export", "x"], ["nonsense"], ["predict", int8_model, "--colour"], ["bench"]):
        result = invoke(*arguments)
        assert result.exit_code == 2 and not result.stdout and result.stderr


def test_an_error_is_one_line(photos: Path) -> None:
    result = invoke("train", photos, "--out", "r", "--backbone", "two\nlines\x1b[31m")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")
    assert "\x1b" not in result.stderr


def test_a_bug_keeps_its_traceback(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tledge.heads.fit", lambda *_, **__: [][0])
    with pytest.raises(IndexError):
        invoke("train", photos, "--out", "r")
    assert not any(Path().iterdir())


# ── Nothing is overwritten without --force ───────────────────────────────────────────────────────────────────────────


def test_files_are_replaced_only_by_force(run: Path, int8_model: Path, photos: Path) -> None:
    for arguments in (
        ["export", run, "--precision", "fp32", "--out", "kept"],
        ["bench", int8_model, "--seconds", "0.1", "--scenario", "offline", "--save", "kept"],
    ):
        Path("kept").write_text("mine")
        assert invoke(*arguments).exit_code == 2 and Path("kept").read_text() == "mine"
        assert invoke(*arguments, "--force").exit_code == 0 and Path("kept").read_bytes() != b"mine"
    Path("kept").write_text("mine")
    assert invoke("export", run, "--out", "kept", "--force", "--max-drop", "-5").exit_code == 1
    assert Path("kept").read_text() == "mine" and len(list(Path().iterdir())) == 1


def test_a_run_is_replaced_only_by_force_and_only_by_a_whole_one(run: Path, photos: Path) -> None:
    shutil.copytree(run, "r")
    before = Path("r/run.json").read_bytes()
    assert invoke("train", photos, "--out", "r").exit_code == 2
    assert invoke("train", photos / "cat", "--out", "r", "--force").exit_code == 2
    assert Path("r/run.json").read_bytes() == before
    assert invoke("train", photos, "--out", "r", "--force", "--seed", "5").exit_code == 0
    assert json.loads(Path("r/run.json").read_text())["options"]["seed"] == 5
    assert [entry.name for entry in Path().iterdir()] == ["r"]


def test_force_deletes_nothing_but_runs(run: Path, photos: Path) -> None:
    Path("home").mkdir()
    Path("home/thesis.txt").write_text("years of work")
    assert invoke("train", photos, "--out", "home", "--force").exit_code == 2
    shutil.copy(run / "run.json", "home")
    assert "thesis.txt" in invoke("train", photos, "--out", "home", "--force").stderr
    assert Path("home/thesis.txt").read_text() == "years of work"


def test_a_run_is_kept_apart_from_its_data(photos: Path) -> None:
    for out in (photos, photos / "run", photos / ".." / "photos" / "new" / "run", photos.parent):
        result = invoke("train", photos, "--out", out, "--force")
        assert result.exit_code == 2 and "data" in result.stderr
    assert invoke("train", photos, "--out", "t/run", "--test-data", ".").exit_code == 2
    assert sorted(entry.name for entry in photos.iterdir()) == ["cat", "dog", "owl"]


def test_paths_are_relative_to_here_and_to_home(
    photos: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "photos").symlink_to(photos)
    (home / "first").symlink_to(run)
    monkeypatch.setenv("HOME", str(home))
    assert document("train", "~/photos", "--out=~/r")["data"] == str(home / "photos")
    assert (home / "r" / "run.json").is_file()
    assert invoke("export", "~/first", "--precision", "fp32", "--out=~/m.onnx").exit_code == 0
    assert invoke("predict", "~/m.onnx", "~/photos/cat").exit_code == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]


# ── A run can be repeated ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_repeated_from_its_document(photos: Path) -> None:
    first = document("train", photos, "--out", "a", "--seed", "3", "--test-fraction", "0.4")
    again = document("train", "--config", "a/run.json", "--out", "b")
    assert again["options"] == first["options"] and again["fingerprint"] == first["fingerprint"]
    assert (again["metrics"], again["l2"]) == (first["metrics"], first["l2"])
    for name in ("head.npz", "predictions.csv"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    other = document("train", "--config", "a", "--out", "c", "--seed", "4")
    assert other["options"] == {**first["options"], "seed": 4}


# ── Names that try to break out ──────────────────────────────────────────────────────────────────────────────────────

NAMES = [
    "a\nb",
    "\ttab",
    "'q\"",
    "-lead",
    "ünï😀",
    os.fsdecode(b"\xff\xfe"),
    "\x1b[2J\x1b[31m",
    "[red]x[bold]",
    "<b>&amp;",
]


def test_odd_names_survive_every_output(tmp_path: Path) -> None:
    make_photos(tmp_path / "drawn", [str(i) for i in range(len(NAMES))], 4)
    odd = tmp_path / "odd"
    for folder, name in zip(sorted((tmp_path / "drawn").iterdir()), NAMES, strict=True):
        (odd / name).mkdir(parents=True)
        for number, file in enumerate(sorted(folder.iterdir())):
            file.rename(odd / name / (NAMES[number - 4] + file.suffix))
    paths = {str(path) for path in odd.rglob("*.*") if path.is_file()}

    trained = invoke("train", odd, "--out", "r")
    assert trained.exit_code == 0 and "\x1b" not in trained.output
    with Path("r/predictions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(NAMES) and {row["path"] for row in rows} <= paths
    assert {row["label"] for row in rows} == set(NAMES)
    page = Path("r/report.html").read_text(encoding="utf-8")
    assert "<b>&amp;" not in page and "\x1b" not in page

    found = document("predict", "r/model.onnx", odd)
    assert {prediction["path"] for prediction in found["predictions"]} == paths
    shown = invoke("predict", "r/model.onnx", odd)
    assert shown.exit_code == 0 and "\x1b" not in shown.stdout and "[red]x[bold]" in shown.stdout
    assert len(shown.stdout.splitlines()) == len(paths) + 2  # not one of them on two lines


# ── Processes: signals, pipes, terminals ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough pictures for an extraction that lasts."""
    return make_photos(tmp_path_factory.mktemp("many") / "photos", ("cat", "dog"), 150, seed=9, size=32)


@pytest.fixture
def fresh_cache(run: Path, cache: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with a cache that holds the converted backbone only."""
    folder = tmp_path / "cache"
    shutil.copytree(cache / "backbones", folder / "backbones")
    yield {**os.environ, "TLEDGE_CACHE_DIR": str(folder)}


def rows_kept(environment: dict[str, str]) -> int:
    file = Path(environment["TLEDGE_CACHE_DIR"], "features.sqlite")
    try:
        with sqlite3.connect(file.as_uri() + "?mode=ro", uri=True) as db:
            return db.execute("SELECT COUNT(*) FROM features").fetchone()[0]
    except sqlite3.Error:
        return 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_stopped_run_leaves_nothing_but_what_it_extracted(
    number: int, code: int, many: Path, fresh_cache: dict[str, str]
) -> None:
    process = started("train", many, "--out", "runs/r", env=fresh_cache)
    deadline = time.monotonic() + 60
    while not rows_kept(fresh_cache) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code and not output
    assert errors.startswith("2 classes (240 train, 60 test)")  # what is said at the start; the rest is about the end
    assert errors.count("\n") == 1 + (number == signal.SIGINT)
    assert not Path("runs").exists()
    if number == signal.SIGINT:
        assert rows_kept(fresh_cache) >= 4 and "What was extracted is kept" in errors.splitlines()[-1]
    if number == signal.SIGKILL:  # and a run afterwards goes on where this one was stopped
        again = subprocess.run(
            [*TLEDGE, "train", many, "--out", "runs/r", "--json"], env=fresh_cache, capture_output=True
        )
        counts = json.loads(again.stdout)["cache"]
        assert counts["hits"] >= 4 and counts["hits"] + counts["misses"] == 300


@pytest.mark.parametrize(
    ("extra", "stage"), [([], "Measuring single stream"), (["--sweep", "threads=1:2"], "Measuring 2 settings in turn")]
)
def test_a_stopped_bench_saves_nothing_and_says_so(int8_model: Path, extra: list[str], stage: str) -> None:
    process = started("bench", int8_model, "--seconds", "60", "--save", "new.json", "-v", *extra)
    while (said := process.stderr.readline()) and said.strip() != stage:
        pass
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert errors == "Interrupted. No result was saved.\n"
    assert not list(Path().iterdir())


def test_a_closed_pipe_ends_in_silence(int8_model: Path, photos: Path) -> None:
    for extra in ([], ["--json"]):
        process = started("predict", int8_model, photos, *extra)
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.wait(60) == 141 and process.stderr.read() == ""
        process.stderr.close()


def test_a_full_standard_output_is_an_error(int8_model: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*TLEDGE, "doctor"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def on_terminal(*arguments: str | Path, **settings: str) -> bytes:
    """Run a command on a terminal of its own and return all that appeared there."""
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CI")}
    terminal, end = pty.openpty()
    environment |= {"TERM": "xterm-256color", **settings}
    process = subprocess.Popen([*TLEDGE, *map(str, arguments)], stdout=end, stderr=end, stdin=end, env=environment)
    os.close(end)
    shown = b""
    try:
        while chunk := os.read(terminal, 1 << 16):
            shown += chunk
    except OSError:  # how a terminal says that nobody is left on the other side
        pass
    os.close(terminal)
    assert process.wait(60) == 0
    return shown


def test_colour_and_progress_are_for_terminals_that_want_them(int8_model: Path, photos: Path) -> None:
    arguments = ("predict", int8_model, photos / "cat")
    assert b"\x1b[" in on_terminal(*arguments)
    for setting in ({"NO_COLOR": "1"}, {"CI": "true"}):
        assert b"\x1b" not in on_terminal(*arguments, **setting)
    assert len(json.loads(on_terminal(*arguments, "--json"))["predictions"]) == 12


# ── Start-up, and the library behind the commands ────────────────────────────────────────────────────────────────────


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
sys.argv = ["tledge", "--help"]
try:
    __import__("tledge.cli").cli.main()
except SystemExit as stop:
    assert not stop.code
heavy = {"numpy", "onnxruntime", "onnx", "tensorflow", "keras", "PIL", "rich", "jinja2", "pygal"} & sys.modules.keys()
assert not heavy, heavy
"""
    assert "train" in subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_commands_are_functions_whatever_was_imported_before() -> None:
    code = """
import tledge, tledge.commands.train, tledge.commands.export, tledge.commands.predict, tledge.commands.evaluate
import tledge.commands.verify, tledge.commands.bench, tledge.commands.doctor, tledge.commands.cache, tledge.backbones
import tledge.commands.sign
import types
for name in ("train", "export", "evaluate", "predict", "sign", "verify", "bench", "doctor", "replay",
             "list_backbones", "cache_info", "cache_verify", "cache_prune"):
    assert isinstance(getattr(tledge, name), types.FunctionType), name
from tledge import train, export, predict
assert callable(train) and callable(export) and callable(predict)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert isinstance(tledge.train, FunctionType) and set(tledge.__all__) <= set(dir(tledge))
    with pytest.raises(AttributeError):
        _ = tledge.nonsense


def test_the_library_returns_what_the_commands_print(int8_model: Path, photos: Path, run: Path) -> None:
    again = tledge.train(**tledge.replay(run), out="r")
    assert again.metrics.accuracy == json.loads((run / "run.json").read_text())["metrics"]["accuracy"]
    assert tledge.evaluate(int8_model, photos).samples == 36
    assert tledge.predict(int8_model, [photos / "cat" / "000.jpg"]).predictions[0].label == "cat"
    assert tledge.verify(int8_model).passed
    assert tledge.bench(int8_model, seconds=0.1, scenarios=["offline"]).scenarios.keys() == {"offline"}
    assert tledge.list_backbones().backbones[0].name == "efficientnet_lite0"
    assert tledge.cache_info().spaces and tledge.cache_verify().dropped == 0
    assert tledge.cache_prune(1 << 40).dropped == 0
    assert tledge.doctor().kernels.keys() == {
        "resize_normalize",
        "softmax_loss_grad",
        "sigmoid_loss_grad",
        "observe",
        "gram",
    }
