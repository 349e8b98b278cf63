"""An onnxruntime with a GPU, simulated where there is none: a CPU runs the nodes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import onnxruntime

from tledge import placement


class Session:
    """A session of the CPU that says it is one of a GPU, but for nodes whose operator is in `left`."""

    def __init__(self, real: Any, providers: list[str], left: dict[str, str]) -> None:
        self.real, self.providers, self.left = real, providers, left

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def get_providers(self) -> list[str]:
        return self.providers

    def get_provider_graph_assignment_info(self) -> list[Any]:
        assert self.real.get_session_options().get_session_config_entry(placement.RECORD) == "1"
        return [
            SimpleNamespace(ep_name=self.left.get(each.op_type, self.providers[0]), get_nodes=lambda each=each: [each])
            for part in self.real.get_provider_graph_assignment_info()
            for each in part.get_nodes()
        ]


class Build:
    """An onnxruntime with CUDA and TensorRT that works, but leaves some operators to other providers."""

    __version__ = "9.9"
    SessionOptions = onnxruntime.SessionOptions

    def __init__(self, **left: str) -> None:
        self.left, self.asked = left, []

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    def InferenceSession(self, source: Any, options: Any, providers: list[Any], **more: Any) -> Any:  # noqa: N802
        self.asked = providers
        names = [each if isinstance(each, str) else each[0] for each in providers]
        real = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return Session(real, names, self.left)
