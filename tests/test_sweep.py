"""`tledge bench --sweep`: the front against brute force, what is asked for, rows that fail, and code that runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import make_backbone, make_head, make_manifest, make_model
from typer.testing import CliRunner

import tledge
from tledge import heads, measurement
from tledge.cli.app import app
from tledge.commands.benching import axes
from tledge.errors import TledgeError
from tledge.measurement import Setting, front, measure_in_turn, tied
from tledge.measurement.sweeps import held_sessions
from tledge.model.join import join
from tledge.model.manifest import stamp
from tledge.report.sweeps import sweep_plot
from tledge.schema import BenchResult

SECONDS = 0.3


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `m.onnx`, which says that it is fp32; the current one."""
    monkeypatch.chdir(tmp_path)
    make_model(Path("m.onnx"))
    return tmp_path


def swept(text: str, **options: object) -> BenchResult:
    return tledge.bench("m.onnx", sweep=text, **{"seconds": SECONDS, **options})


def refused(*arguments: str) -> str:
    """Return the one line that the command line says when it refuses `arguments`."""
    result = CliRunner().invoke(app, ["bench", "m.onnx", *arguments])
    assert result.exit_code == 2 and not result.stdout
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def write_sibling(
    name: str, precision: str, accuracy: float = 0.5, created: str = "2026-01-01", data: str = "f"
) -> None:
    """Write the network of `m.onnx` as a file that says it is of another precision."""
    backbone = make_backbone(Path("graphs"))
    manifest = make_manifest(backbone, ["left", "right"])
    said = replace(manifest, precision=precision, accuracy=accuracy, created=created, data_fingerprint=data)
    Path(name).write_bytes(stamp(join(backbone, heads.graph(make_head(2), backbone.dimension)), said))


def write_foreign(name: str, batch: int | str, reshaped: int | None = None) -> None:
    """Write somebody else's model: x float [batch, 4] → 2 x; `reshaped` bakes that many samples into the graph."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Add", ["x", "x"], ["sum"])]
    constants = []
    if reshaped:
        constants.append(numpy_helper.from_array(np.array([reshaped, 4]), "shape"))
        nodes.append(helper.make_node("Reshape", ["sum", "shape"], ["y"]))
    else:
        nodes.append(helper.make_node("Identity", ["sum"], ["y"]))
    sides = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [batch, 4]) for each in ("x", "y")]
    graph = helper.make_graph(nodes, "g", sides[:1], sides[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), name)


# ── The front ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("aims", [1, 2, 3, 4])
def test_the_front_is_what_brute_force_finds(aims):
    rng = np.random.default_rng(aims)
    for count in (1, 2, 7, 40):
        for _ in range(50):
            costs = rng.integers(0, 6, (count, aims)).astype(float)  # few values, so that many are equal
            expected = [
                not any(
                    all(o <= c for o, c in zip(other, cost, strict=True)) and other != cost for other in costs.tolist()
                )
                for cost in costs.tolist()
            ]
            assert front(costs).tolist() == expected
            assert front(costs).any()


def test_rows_on_the_front_are_those_that_no_other_row_beats():
    rows = swept("threads=1:2,batch=1:2:4").sweep.rows

    def beats(other, row):
        better = other.p50_ms < row.p50_ms or other.samples_per_second > row.samples_per_second
        return better and other.p50_ms <= row.p50_ms and other.samples_per_second >= row.samples_per_second

    assert [row.pareto for row in rows] == [not any(beats(other, row) for other in rows) for row in rows]


# ── Telling settings apart ───────────────────────────────────────────────────────────────────────────────────────────


def test_what_every_round_agrees_on_is_told_apart_and_what_they_differ_on_is_not():
    rng = np.random.default_rng(0)
    weather = np.exp(rng.normal(0, 0.5, measurement.ROUNDS))  # shared by all, as each round has it
    best, clear = 10 * weather, 11 * weather
    unclear = best * np.where(np.arange(measurement.ROUNDS) % 2, 0.99, 1.03)
    assert tied([clear, best, unclear]) == (1, [1, 2])
    assert tied([best]) == (0, [0])


def test_what_is_chosen_is_the_best_or_near_it():
    shutil.copy("m.onnx", "copy.onnx")  # equals, which cannot be told apart but by chance
    found = swept("precision=copy.onnx,threads=1:2,batch=1:4").sweep
    rows = found.rows
    assert rows[found.fastest.row].p50_ms <= 1.06 * min(row.p50_ms for row in rows)
    assert rows[found.most.row].samples_per_second >= max(row.samples_per_second for row in rows) / 1.06
    assert rows[found.leanest.row].cpu_ms_per_sample <= 1.06 * min(row.cpu_ms_per_sample for row in rows)
    for choice in (found.fastest, found.most, found.leanest):
        assert choice.row not in choice.tied and set(choice.tied) < set(range(len(rows)))
    assert found.objectives == ("p50_ms", "samples_per_second", "accuracy")


# ── What is asked for ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("thread", "Did you mean threads?"),
        ("", "'' is no axis"),
        ("threads,,batch", "'' is no axis"),
        ("threads,threads=1", "named twice"),
        ("threads=", "must say something"),
        ("threads=1:", "must say something"),
        ("threads=1,2", "'2' is no axis of a sweep. There are: threads, batch, precision, provider, preset. Values"),
        ("threads=two", "whole numbers, got 'two'"),
        ("threads=-1", "whole numbers, got '-1'"),
        ("threads=1.5", "whole numbers"),
        ("threads=²", "whole numbers"),
        ("threads=0", "Threads must be between 1 and"),
        ("threads=99999", "Threads must be between 1 and"),
        (f"threads={'9' * 5000}", "whole numbers"),
        ("batch=0", "A batch must have between 1 and 1024"),
        ("batch=4096", "A batch must have between 1 and 1024"),
        ("provider=cdua", "Did you mean cuda?"),
        ("provider=auto", "There is no provider called 'auto' to sweep."),
        ("preset=bussy", "Did you mean busy?"),
        ("precision=gone.onnx", "gone.onnx cannot be read"),
        ("precision=int8", "No int8 file of the same network"),
        (f"threads={':'.join(map(str, range(1, 61)))},batch,preset", "512 combinations at most, these are 1080"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(asked, said):
    assert said in refused("--sweep", asked)


@pytest.mark.parametrize(
    "options",
    [
        ("--against", "m.onnx"),
        ("--scenario", "offline"),
        ("--max-regression", "9%"),
        ("--threads", "1"),
        ("--plot", "sweep.png"),
        ("--seconds", "0"),
        ("--seconds", "nan"),
    ],
)
def test_options_that_do_not_go_with_a_sweep_are_refused(options):
    refused("--sweep", "threads", *options)
    assert not Path("sweep.png").exists()


def test_a_swept_provider_is_not_given_as_well():
    assert "Leave --provider out" in refused("--sweep", "provider", "--provider", "cpu")


def test_a_plot_needs_a_sweep_and_room():
    assert "--sweep threads" in refused("--plot", "sweep.svg")
    Path("sweep.svg").write_text("mine")
    assert "exists already" in refused("--sweep", "threads=1", "--plot", "sweep.svg")
    assert Path("sweep.svg").read_text() == "mine"


def test_a_file_that_is_no_model_is_refused_before_anything_is_measured():
    Path("no.onnx").write_bytes(b"not a model")
    assert "no.onnx" in refused("--sweep", "precision=no.onnx", "--seconds", "600")


@pytest.mark.parametrize(
    ("cores", "tried"),
    [(1, (1,)), (2, (1, 2)), (4, (1, 2, 3, 4)), (6, (1, 2, 3, 4, 6)), (12, (1, 2, 3, 4, 6, 8, 12)), (3, (1, 2, 3))],
)
def test_the_threads_worth_trying_end_at_the_cores(cores, tried):
    assert axes.worth_trying(cores) == tried


# ── What is measured ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_combination_has_a_row_with_figures_that_fit_together():
    result = swept("batch=1:4,threads=1:2")
    found = result.sweep
    assert [(row.threads, row.batch) for row in found.rows] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert found.axes == {"batch": ("1", "4"), "threads": ("1", "2")}
    assert result.scenarios == {} and result.verdict is None
    for row in found.rows:
        assert not row.failed and row.queries >= 1
        assert row.p50_ms > 0 and row.cpu_ms_per_sample > 0
        assert row.samples_per_second > 0 and (row.p99_ms is None) == (row.queries < 100)


def test_one_setting_is_a_sweep_too():
    (row,) = swept("threads=1:1").sweep.rows
    assert row.pareto and (row.threads, row.batch, row.preset, row.provider) == (1, 1, "busy", "cpu")


def test_all_axes_without_values_sweep_what_is_here():
    found = swept("threads,batch,precision,provider", seconds=0.05).sweep
    assert found.axes["precision"] == ("m.onnx",) and found.axes["batch"] == ("1", "2", "4", "8", "16", "32")
    assert "cpu" in found.axes["provider"]
    assert any("No other precision" in note for note in found.notes)
    assert len(found.rows) == np.prod([len(values) for values in found.axes.values()])


def test_no_time_is_still_one_turn_each_and_says_that_it_was_short():
    found = swept("threads=1:2,batch=1:2", seconds=1e-9).sweep
    assert found.rounds == 1 and all(row.queries >= 1 for row in found.rows)
    assert any("small differences mean nothing" in note for note in found.notes)


def test_presets_are_measured_with_pauses_and_processor_time_counts():
    found = swept("preset=busy:small", seconds=2.5).sweep
    assert found.pause_ms == 50 and "cpu_ms_per_sample" in found.objectives
    assert [row.preset for row in found.rows] == ["busy", "small"]
    assert 'tune=PRESETS["small"]' in found.leanest.predictor or found.leanest.row == 0


# ── Rows that fail ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_provider_that_is_not_here_is_a_row_with_its_reason():
    here, gone = swept("provider=cpu:tensorrt").sweep.rows
    assert not here.failed and here.pareto
    if gone.failed:  # on a box with a GPU it may run
        assert "tensorrt" in gone.failed
        assert (gone.p50_ms, gone.samples_per_second, gone.pareto, gone.queries) == (None, None, False, 0)


def test_a_batch_that_the_graph_refuses_is_a_row_with_its_reason():
    write_foreign("m.onnx", 1)
    one, two = swept("batch=1:2").sweep.rows
    assert not one.failed and "batches of 1 only" in two.failed and one.pareto and not two.pareto
    write_foreign("m.onnx", "N", reshaped=1)
    one, two = swept("batch=1:2", threads=1).sweep.rows
    assert two.failed and "\n" not in two.failed and not one.failed
    shown = CliRunner().invoke(app, ["bench", "m.onnx", "--sweep", "batch=1:2", "--seconds", "0.1"])
    assert shown.exit_code == 0 and "failed: " in shown.stdout


def test_when_nothing_runs_the_reason_is_the_error():
    write_foreign("m.onnx", 1)
    assert "None of the 2 settings runs here" in refused("--sweep", "batch=2:3", "--seconds", "0.1")


def test_sessions_that_take_too_much_memory_are_closed_and_opened_again(monkeypatch):
    monkeypatch.setattr(held_sessions, "_SHARE_OF_MEMORY", 1e-12)
    settings = [Setting(Path("m.onnx"), "cpu", threads, "busy", 1) for threads in (1, 2)]
    for measured in measure_in_turn(settings, 0.2):
        assert not measured.failed and measured.counted


# ── Precisions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_other_precisions_of_the_network_are_found_beside_it():
    write_sibling("old.onnx", "int8", created="2025-01-01")
    write_sibling("new.onnx", "int8", accuracy=0.4)
    write_sibling("half.onnx", "fp16")
    write_sibling("stranger.onnx", "fp16", data="other pictures", created="2027-01-01")
    Path("damaged.onnx").write_bytes(Path("half.onnx").read_bytes()[:-40])
    Path("folder.onnx").mkdir()
    found = swept("precision").sweep
    assert {(row.model, row.precision) for row in found.rows} == {
        ("m.onnx", "fp32"), ("new.onnx", "int8"), ("half.onnx", "fp16"),
    }  # fmt: skip
    assert "accuracy" in found.objectives
    # The front holds whoever is most accurate, however slow.
    assert any(row.pareto for row in found.rows if row.accuracy == 0.5)


def test_precisions_are_named_by_word_or_by_file():
    write_sibling("small.onnx", "int8")
    write_foreign("theirs.onnx", "N")
    assert [row.model for row in swept("precision=int8").sweep.rows] == ["m.onnx", "small.onnx"]
    found = swept("precision=./m.onnx:theirs.onnx").sweep
    assert [row.model for row in found.rows] == ["m.onnx", "theirs.onnx"]
    assert found.rows[1].accuracy is None and "accuracy" not in found.objectives
    assert "Did you mean" not in refused("--sweep", "precision=fp16")


# ── What to use ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_code_that_is_printed_opens_the_model_as_it_was_measured():
    found = swept("threads=2,preset=small").sweep
    names: dict = {}
    exec(found.fastest.predictor, names)
    assert names["predictor"].session.get_session_options().intra_op_num_threads == 2
    exec(found.fastest.onnxruntime, names)
    options = names["session"].get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert names["session"].get_providers() == ["CPUExecutionProvider"]


def test_for_a_model_of_others_the_code_is_onnxruntimes_alone():
    write_foreign("it's.onnx", "N")
    found = tledge.bench("it's.onnx", sweep="threads=1", seconds=0.1).sweep
    assert found.fastest.predictor == ""
    exec(found.fastest.onnxruntime, {})


def test_the_terminal_shows_the_table_the_front_and_what_to_use():
    shown = CliRunner().invoke(app, ["bench", "m.onnx", "--sweep", "threads=1:2,batch=1:2", "--seconds", "0.3"])
    assert shown.exit_code == 0
    for said in ("samples/s", "*", "Use, for the lowest latency: threads ", "Predictor('m.onnx', provider=\"cpu\", "):
        assert said in shown.stdout


def test_the_document_holds_the_sweep_and_can_be_saved():
    shown = CliRunner().invoke(
        app, ["bench", "m.onnx", "--sweep", "batch=1:2", "--seconds", "0.1", "--json", "--save", "s.json"]
    )
    assert shown.exit_code == 0
    document = json.loads(shown.stdout)
    assert document == json.loads(Path("s.json").read_text())
    assert {"p50_ms", "p99_ms", "samples_per_second", "pareto", "failed"} <= document["sweep"]["rows"][0].keys()
    assert {"row", "predictor", "onnxruntime"} <= document["sweep"]["fastest"].keys()
    assert "holds no figures" in refused("--against", "s.json")


# ── The plot ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_plot_is_one_svg_with_a_dot_for_every_row_that_ran():
    found = swept("threads=1:2,batch=1:2:4,provider=cpu", plot="sweep.svg").sweep
    text = Path("sweep.svg").read_text("utf-8")
    root = ElementTree.fromstring(text)
    assert found.plot == "sweep.svg" and root.tag.endswith("svg") and root.get("id") == "chart-sweep"
    assert "<script" not in text and "http://" not in text.replace("http://www.w3.org/", "")
    titles = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}title")]
    for row in found.rows:
        assert any(f"threads {row.threads}, batch {row.batch}, busy: " in title for title in titles)
    assert sweep_plot(found) == text


def test_names_from_outside_are_text_in_the_plot():
    name = "<b>&\x1b\udcff.onnx"
    shutil.copy("m.onnx", name)
    found = tledge.bench(name, sweep="batch=1:2", seconds=0.1).sweep
    text = sweep_plot(found)
    ElementTree.fromstring(text.encode("utf-8"))
    assert "<b>" not in text and "\x1b" not in text


def test_without_pygal_a_plot_is_refused_before_anything_is_measured(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pygal", None)
    assert "tledge[bench]" in refused("--sweep", "threads", "--plot", "sweep.svg", "--seconds", "600")
    assert swept("threads=1").sweep.rows


def test_a_full_place_for_the_plot_is_told_before_anything_is_measured():
    with pytest.raises(TledgeError, match="cannot be written"):
        swept("threads=1", plot="m.onnx/sweep.svg", seconds=600.0)
