"""Rebuild a cut network as a backbone: `image`, `vector` or `audio` in, `features` out, for any number of samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tledge.backbones import sound_input
from tledge.backbones.from_onnx.batch import free_batch
from tledge.backbones.from_onnx.feed import take_pictures, take_vectors
from tledge.backbones.from_onnx.fold_batch_norm import fold_batch_norm
from tledge.backbones.from_onnx.fold_constants import fold_constants
from tledge.backbones.from_onnx.graph import keep_what_leads_to, lift_constants
from tledge.backbones.from_onnx.input import NetworkInput
from tledge.backbones.from_onnx.opset import settle_opset, settle_versions
from tledge.backbones.from_onnx.output import give_features
from tledge.backbones.from_onnx.sound import SoundInput, one_by_one
from tledge.backbones.from_onnx.widen import widen
from tledge.backbones.passes.drop_reshapes import drop_reshapes
from tledge.backbones.passes.paddings import settle_paddings
from tledge.errors import BackboneError
from tledge.schema import ChannelOrder, InputSpec, Pool, VectorSpec

_PREFIX = "net/"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of a network: its input's form, how that is fed, and what its output [N, …] is.

    `tensor` of `shape` is where it was cut; `channels_last` says where that has its channels.
    """

    form: NetworkInput | SoundInput
    spec: InputSpec
    order: ChannelOrder
    tensor: str
    shape: tuple[int, ...]
    pool: Pool
    channels_last: bool
    dimension: int


def settle_shape(model: Any, form: NetworkInput | SoundInput, spec: InputSpec) -> None:
    """Write into `model` the shape of input that `spec` means, for as many samples as it is fixed to, or one."""
    if isinstance(form, SoundInput):
        lengths = form.shape(spec)
    else:
        height, width = (1, spec.length) if isinstance(spec, VectorSpec) else (spec.height, spec.width)
        lengths = form.shape(form.batch or 1, height, width)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, length in zip(dims, lengths, strict=True):
        dim.dim_value = length


def rebuild(model: Any, plan: Plan, name: str) -> Any:
    """Return the backbone's onnx.ModelProto made from `model`, which was cut at `plan.tensor` and is used up.

    Everything that the network names stands under "net/". `name` is what to call the file. Raises BackboneError when
    its operators cannot be brought to a usable version.
    """
    from onnx import compose, helper

    kind = model.graph.output[0].type.tensor_type.elem_type
    alone = isinstance(plan.form, SoundInput) and plan.form.alone
    shape = plan.shape[1:] if alone else ["N", *plan.shape[1:]]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(plan.tensor, kind, shape))
    model = settle_opset(model, name)
    lift_constants(model.graph)
    _name_nodes(model.graph)
    widen(model)
    fold_constants(model, name)
    fold_batch_norm(model.graph)
    if not alone:
        free_batch(model, plan.form.batch or 1, fixed=plan.form.batch is not None)
    model = compose.add_prefix(model, _PREFIX)
    keep_what_leads_to(model, _PREFIX + plan.tensor)
    if alone:
        one_by_one(model, _PREFIX + plan.form.name, _PREFIX + plan.tensor, plan.shape[1:])
    if isinstance(plan.form, SoundInput):
        sound_input.lead(model, plan.spec, plan.form.order(plan.spec), _PREFIX + plan.form.name)
    elif isinstance(plan.spec, VectorSpec):
        take_vectors(model, plan.spec, _PREFIX + plan.form.name)
    else:
        take_pictures(model, plan.spec, plan.order, plan.form, _PREFIX + plan.form.name)
    drop_reshapes(model, follow_shapes=True)
    settle_paddings(model)
    keep_what_leads_to(model, _PREFIX + plan.tensor)
    give_features(model.graph, _PREFIX + plan.tensor, len(plan.shape), plan.pool, plan.channels_last, plan.dimension)
    finish(model, name)
    return model


def _name_nodes(graph: Any) -> None:
    taken: set[str] = set()
    for node in graph.node:
        if not node.name or node.name in taken:
            node.name = next(name for name in node.output if name)
        taken.add(node.name)


def finish(model: Any, name: str) -> None:
    """Settle versions, drop what others wrote beside the graph, and check `model`, in place.

    Raises BackboneError, which calls the file `name`, when it is not valid ONNX.
    """
    import onnx

    settle_versions(model)
    model.graph.name, model.producer_name, model.producer_version = name, "tledge", ""
    for field in ("domain", "model_version", "doc_string"):
        model.ClearField(field)
    for field in ("metadata_props", "training_info"):
        model.ClearField(field)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise BackboneError(
            f"The backbone made from {name} is not valid ONNX: {reason}.", "Export it again."
        ) from error
