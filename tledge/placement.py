"""Where the nodes of a graph run, and whether that is where they should.

onnxruntime gives a node that a provider cannot run to the next provider, without a word. What should run on the one
that was asked for is all that carries on what the network is fed. Arithmetic on shapes is not: onnxruntime puts it on
the processor on purpose. Nor are forests and SVMs, for which no GPU provider has kernels; those are told, not refused.

Judged is what onnxruntime records when it shares out the graph, after its basic rewriting and before it fuses. Not run
on a GPU yet; with OpenVINO as the other provider it was.
Source: onnxruntime, Session_GetEpGraphAssignmentInfo (since 1.24) and framework/fallback_cpu_capability.cc.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tledge.errors import EngineError
from tledge.outline import Outline, Role, roles
from tledge.schema import NodeElsewhere

if TYPE_CHECKING:
    import onnxruntime

RECORD = "session.record_ep_graph_assignment_info"
PREFERENCE = ("tensorrt", "cuda", "cpu")  # what one of them cannot run falls to those behind it
_SHORT = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "tensorrt"}
_MOST_NAMED = 8
# Of nodes that onnxruntime has made itself, by their names unknown to the graph, these are about shapes.
_SHAPES_BY_OPERATOR = ("Shape", "Size", "Constant", "ConstantOfShape", "Range")


@dataclass(frozen=True, slots=True)
class Assigned:
    """A node as onnxruntime shared it out; `provider` is where it runs (cpu, cuda, tensorrt, …)."""

    name: str
    operator: str
    domain: str
    provider: str


def short(provider: str) -> str:
    """Return the short name (cpu, cuda, tensorrt) of onnxruntime's `provider`, or that itself."""
    return _SHORT.get(provider, provider)


def assigned(session: onnxruntime.InferenceSession) -> tuple[Assigned, ...] | None:
    """Return where each node of `session`, opened with RECORD, runs; None before onnxruntime 1.24."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    return tuple(
        Assigned(node.name, node.op_type, node.domain, short(part.ep_name))
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    )


def elsewhere(nodes: Iterable[Assigned], outline: Outline, wanted: str) -> tuple[NodeElsewhere, ...]:
    """Return those of `nodes` that carry on what the graph is fed and do not run on `wanted`."""
    known: dict[tuple[str, str], set[Role]] = {}
    for node, role in roles(outline):
        known.setdefault((node.name, node.operator), set()).add(role)
    judged = ((node, _role(node, known)) for node in nodes if node.provider != wanted)
    return tuple(
        NodeElsewhere(node.name, node.operator, node.provider, expected=role == "head")
        for node, role in judged
        if role != "shape"
    )


def check(
    nodes: Sequence[Assigned], found: Sequence[NodeElsewhere], wanted: str, allowed: Iterable[str], what: str
) -> None:
    """Raise EngineError when any of `found` runs where it neither should nor, by `allowed`, may.

    Raises it also when nothing may go elsewhere and no node at all runs on `wanted`. `what` is what to call the model.
    """
    allowed = {wanted, *allowed}
    fallen = [node for node in found if not node.expected and node.provider not in allowed]
    if fallen:
        places = {*allowed, *(node.provider for node in fallen)}
        raise EngineError(
            f"{what} would run {len(fallen)} of its {len(nodes)} nodes elsewhere than on {wanted}: {listed(fallen)}.",
            f"To allow that, say '--provider {','.join(place for place in PREFERENCE if place in places)}'.",
        )
    if allowed == {wanted} and found and not any(node.provider == wanted for node in nodes):
        raise EngineError(
            f"{what} has no node that {wanted} can run: {listed(found)}.", "Use '--provider cpu', where all of it runs."
        )


def listed(found: Sequence[NodeElsewhere]) -> str:
    """Return the first of `found` in words, and how many more there are."""
    named = [f"{node.name or 'a node without a name'} ({node.operator}) on {node.provider}" for node in found]
    more = [f"and {len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
    return ", ".join([*named[:_MOST_NAMED], *more])


def _role(node: Assigned, known: dict[tuple[str, str], set[Role]]) -> Role:
    """Return what `node` is for: the strictest of what nodes of its name are, or by its operator where none has it."""
    found = known.get((node.name, node.operator), set())
    for role in ("compute", "head", "shape"):
        if role in found:
            return role
    if node.domain == "ai.onnx.ml":
        return "head"
    return "shape" if node.operator in _SHAPES_BY_OPERATOR else "compute"
