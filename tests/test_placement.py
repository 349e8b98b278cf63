"""Where nodes run is judged by the graph, and none goes elsewhere unsaid."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone, make_head, make_manifest
from simulated_gpu import Build
from typer.testing import CliRunner

import tledge
from tledge import engine, heads, modalities, outline, placement
from tledge.cli.app import app
from tledge.errors import EngineError
from tledge.measurement import open_subject
from tledge.model.join import join
from tledge.model.manifest import golden_samples, stamp
from tledge.outline import Node, Outline
from tledge.placement import Assigned
from tledge.runtime import Predictor
from tledge.schema import NodeElsewhere

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")


def node(name: str, operator: str, inputs: str, domain: str = "") -> Node:
    return Node(name, operator, domain, tuple(inputs.split()), (f"{name}.out",))


GRAPH = Outline(
    (
        node("cast", "Cast", "image"),
        node("conv", "Conv", "cast.out weight"),
        node("shape", "Shape", "conv.out"),
        node("gather", "Gather", "shape.out zero"),
        node("concat", "Concat", "gather.out rest"),
        node("reshape", "Reshape", "conv.out concat.out"),
        node("scaled", "Mul", "weight two"),
        node("forest", "TreeEnsembleClassifier", "reshape.out", "ai.onnx.ml"),
        node("softmax", "Softmax", "forest.out"),
    ),
    ("image",),
)


def placed(*elsewhere: str, on: str = "cpu", wanted: str = "cuda") -> list[Assigned]:
    return [Assigned(n.name, n.operator, n.domain, on if n.name in elsewhere else wanted) for n in GRAPH.nodes]


# ── The outline of a graph ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_outline_is_what_onnx_reads(int8_model: Path, tmp_path: Path) -> None:
    for path in (int8_model, make_backbone(tmp_path).path):
        graph = onnx.load(path).graph
        found = outline.read(path.read_bytes())
        assert [(n.name, n.operator, n.domain, n.inputs, n.outputs) for n in found.nodes] == [
            (n.name, n.op_type, n.domain, tuple(n.input), tuple(n.output)) for n in graph.node
        ]
        assert found.inputs == ("image",)
    assert found.precision == "fp32" and outline.read(int8_model.read_bytes()).precision == "int8"


def test_the_outline_knows_half_precision_and_constants_among_the_inputs() -> None:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones(2, np.float16), "w")
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [2]) for name in ("x", "w", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", infos[:2], infos[2:], [weight])
    found = outline.read(helper.make_model(graph).SerializeToString())
    assert (found.inputs, found.precision, found.nodes[0].name) == (("x",), "fp16", "")


def test_damaged_bytes_have_no_outline_and_raise_nothing(tmp_path: Path) -> None:
    whole = make_backbone(tmp_path).path.read_bytes()
    for end in range(0, len(whole), 7):
        assert len(outline.read(whole[:end]).nodes) in (0, 10)  # whole where only the operator sets are cut off
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(damaged), 3):
            damaged[at] = rng.integers(256)
        outline.read(bytes(damaged))
        outline.read(rng.bytes(40))


def test_each_node_has_a_role() -> None:
    found = {n.name: role for n, role in outline.roles(GRAPH)}
    assert {name for name, role in found.items() if role == "compute"} == {"cast", "conv", "reshape"}
    assert {name for name, role in found.items() if role == "head"} == {"forest", "softmax"}


# ── The verdict over a list of assignments ───────────────────────────────────────────────────────────────────────────


def test_arithmetic_on_shapes_belongs_on_the_processor() -> None:
    assert placement.elsewhere(placed("shape", "gather", "concat", "scaled"), GRAPH, "cuda") == ()


def test_what_computes_elsewhere_is_listed_and_a_forest_is_expected_there() -> None:
    found = placement.elsewhere(placed("conv", "gather", "forest", "softmax"), GRAPH, "cuda")
    assert [(n.name, n.operator, n.provider, n.expected) for n in found] == [
        ("conv", "Conv", "cpu", False),
        ("forest", "TreeEnsembleClassifier", "cpu", True),
        ("softmax", "Softmax", "cpu", True),
    ]


def test_nodes_that_the_graph_does_not_name_are_judged_strictly() -> None:
    made = [Assigned("conv/duplicated", "DequantizeLinear", "", "cpu"), Assigned("made", "Shape", "", "cpu")]
    made += [Assigned("", "SVMClassifier", "ai.onnx.ml", "cpu")]
    found = placement.elsewhere(made, GRAPH, "cuda")
    assert [(n.name, n.expected) for n in found] == [("conv/duplicated", False), ("", True)]
    unnamed = Outline((node("", "Mul", "w two"), node("", "Mul", "image w")), ("image",))
    assert len(placement.elsewhere([Assigned("", "Mul", "", "cpu")], unnamed, "cuda")) == 1


def judge(nodes: list[Assigned], wanted: str, *allowed: str) -> None:
    placement.check(nodes, placement.elsewhere(nodes, GRAPH, wanted), wanted, allowed, "Net")


def test_a_node_that_fell_back_is_an_error_that_names_it_and_the_way_out() -> None:
    with pytest.raises(
        EngineError, match=r"Net would run 1 of its 9 nodes elsewhere than on cuda: conv \(Conv\) on cpu\."
    ) as it:
        judge(placed("conv", "forest"), "cuda")
    assert it.value.exit_code == 2 and "'--provider cuda,cpu'" in it.value.hint
    judge(placed("conv", "forest"), "cuda", "cpu")
    judge(placed("shape", "forest", "softmax"), "cuda")


def test_tensorrt_may_not_leave_nodes_to_cuda_unless_told() -> None:
    nodes = placed("conv", on="cuda", wanted="tensorrt")
    with pytest.raises(EngineError, match=r"conv \(Conv\) on cuda.*'--provider tensorrt,cuda'"):
        judge(nodes, "tensorrt")
    judge(nodes, "tensorrt", "cuda")
    with pytest.raises(EngineError, match=r"'--provider tensorrt,cuda,cpu'"):
        judge(placed("conv", wanted="tensorrt"), "tensorrt", "cuda")


def test_long_lists_are_cut() -> None:
    nodes = [NodeElsewhere(f"n{i}", "Conv", "cpu", False) for i in range(30)]
    said = placement.listed(nodes)
    assert said.count("Conv") == 8 and said.endswith("and 22 more")
    assert placement.listed(nodes[:8]).count("Conv") == 8 and "more" not in placement.listed(nodes[:8])
    assert placement.listed([NodeElsewhere("", "Mul", "cpu", False)]) == "a node without a name (Mul) on cpu"


def test_a_model_that_is_all_forest_does_not_run_on_a_gpu() -> None:
    alone = Outline((node("forest", "TreeEnsembleClassifier", "x", "ai.onnx.ml"),), ("x",))
    nodes = [Assigned("forest", "TreeEnsembleClassifier", "ai.onnx.ml", "cpu")]
    found = placement.elsewhere(nodes, alone, "cuda")
    with pytest.raises(EngineError, match="no node that cuda can run"):
        placement.check(nodes, found, "cuda", (), "Forest")
    placement.check(nodes, found, "cuda", ("cpu",), "Forest")


# ── What onnxruntime records ─────────────────────────────────────────────────────────────────────────────────────────


def test_onnxruntimes_own_record_names_the_nodes_of_the_graph(int8_model: Path) -> None:
    options = {placement.RECORD: "1"}
    session = engine.open_session(int8_model, provider="cpu", tune=options)
    nodes, content = placement.assigned(session), int8_model.read_bytes()
    assert nodes and {each.provider for each in nodes} == {"cpu"}
    assert placement.elsewhere(nodes, outline.read(content), "cpu") == ()
    listed = {
        each.name.removesuffix("/duplicated") for each in placement.elsewhere(nodes, outline.read(content), "cuda")
    }
    assert listed == {each.name for each, role in outline.roles(outline.read(content)) if role == "compute"}
    assert engine.nodes_elsewhere(session, content) == ()


def test_a_provider_that_takes_nothing_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """onnxruntime's wheel for CPUs has a second provider, for services in a network, which no graph of ours uses."""
    other = "AzureExecutionProvider"
    if other not in onnxruntime.get_available_providers():
        pytest.skip("this build of onnxruntime has no second provider")
    monkeypatch.setitem(engine._PROVIDERS, "cuda", (other, "CPUExecutionProvider"))
    path = make_backbone(tmp_path).path
    with pytest.raises(EngineError, match=r"10 of its 10 nodes elsewhere than on cuda: transpose \(Transpose\) on cpu"):
        engine.open_session(path, provider="cuda")
    session = engine.open_session(path, provider="auto")
    assert session.get_providers()[0] == other and "10 of its 10 nodes" in caplog.text


# ── Sessions on a GPU that is simulated ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Build:
    found = Build(Clip="CPUExecutionProvider")
    monkeypatch.setattr(engine, "_onnxruntime", lambda: found)
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model file with a golden sample."""
    backbone = make_backbone(tmp_path / "graphs")
    graph, batch = join(backbone, heads.graph(make_head(2), 8)), np.zeros((1, 16, 16, 3), np.uint8)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    reader = modalities.reader(backbone.preprocess)
    golden = golden_samples(list(batch), reader, lambda rows: session.run(["probabilities"], reader.feed(rows))[0])
    manifest = make_manifest(backbone, ["left", "right"])
    path = tmp_path / "model.onnx"
    path.write_bytes(stamp(graph, replace(manifest, golden=golden)))
    return path


FALLEN = NodeElsewhere("first.relu6", "Clip", "cpu", expected=False)


def test_the_provider_that_was_asked_for_runs_all_or_nothing(build: Build, model: Path) -> None:
    for provider in ("cuda", "tensorrt"):
        with pytest.raises(EngineError, match=rf"than on {provider}: first\.relu6 \(Clip\) on cpu"):
            Predictor(model, provider=provider)
    build.left = {}
    assert Predictor(model, provider="cuda").nodes_elsewhere == ()


@pytest.mark.parametrize("provider", ["auto", "cuda,cpu", "tensorrt,cuda,cpu"])
def test_what_may_fall_back_is_told(provider: str, build: Build, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    predictor = Predictor(model, provider=provider)
    wanted = "tensorrt" if "tensorrt" in provider else "cuda"
    assert predictor.provider == wanted and predictor.nodes_elsewhere == (FALLEN,)
    assert "1 of its 12 nodes elsewhere" in caplog.text
    assert engine.resolve(provider, model) == (provider if provider != "auto" else "cuda,cpu")


def test_documents_and_people_are_told(build: Build, model: Path) -> None:
    result = CliRunner().invoke(app, ["verify", str(model), "--json"])
    assert result.exit_code == 0
    said = {"name": "first.relu6", "operator": "Clip", "provider": "cpu", "expected": False}
    assert json.loads(result.stdout)["nodes_elsewhere"] == [said]
    assert result.stderr.startswith("note: ") and result.stderr.count("\n") == 1 and "(Clip) on cpu" in result.stderr
    assert "Not on cuda: first.relu6 (Clip) runs on cpu\n" in CliRunner().invoke(app, ["verify", str(model)]).stdout
    # What `tledge bench` says is its subject's; it judges in a process of its own, where nothing is built in.
    assert open_subject(model).nodes_elsewhere == (FALLEN,)
    failed = CliRunner().invoke(app, ["verify", str(model), "--provider", "cuda"])
    assert failed.exit_code == 2 and "(Clip) on cpu" in failed.stderr and "--provider cuda,cpu" in failed.stderr
    assert not logging.getLogger("tledge").handlers


def test_the_processor_has_nothing_elsewhere(model: Path) -> None:
    checked = tledge.verify(model, provider="cpu")
    assert checked.nodes_elsewhere == () and tledge.bench(model, seconds=0.05).nodes_elsewhere == ()


def test_an_onnxruntime_that_does_not_tell_cannot_promise(
    build: Build, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "assigned", lambda session: None)
    with pytest.raises(EngineError, match=r"from 1\.24 on, found 9\.9.*'--provider cuda,cpu'"):
        Predictor(model, provider="cuda")
    assert Predictor(model, provider="auto").nodes_elsewhere is None
    assert tledge.verify(model, provider="cuda,cpu").nodes_elsewhere is None


@pytest.mark.parametrize(
    "words", ["cpu,cuda", "cuda,", "cuda,cuda", "cuda,tensorrt", "auto,cpu", "", "tensorrt,cpu,cuda"]
)
def test_lists_that_mean_nothing_are_refused(words: str, build: Build) -> None:
    with pytest.raises(EngineError, match="provider"):
        engine.check(words)


def test_features_do_not_depend_on_where_nodes_might_have_gone(tmp_path: Path) -> None:
    from tledge.features.extract import space_of

    backbone = make_backbone(tmp_path)
    assert space_of(backbone, "cuda") == space_of(backbone, "cuda,cpu")
    assert space_of(backbone, "cuda") != space_of(backbone, "cpu")
