"""A setting as code to paste: for tledge's runtime, and for onnxruntime alone."""

from __future__ import annotations

from collections.abc import Sequence

from tledge import engine
from tledge.measurement import Setting


def predictor(setting: Setting) -> str:
    """Return Python that opens the model of `setting` with `tledge.runtime`."""
    tune = f', tune=PRESETS["{setting.preset}"]' if engine.PRESETS[setting.preset] else ""
    imports = "from tledge.engine import PRESETS\n" if tune else ""
    arguments = f'{str(setting.model)!r}, provider="{setting.provider}", threads={setting.threads}{tune}'
    return f"{imports}from tledge.runtime import Predictor\npredictor = Predictor({arguments})\n"


def onnxruntime(setting: Setting, providers: Sequence[str]) -> str:
    """Return Python that opens the model of `setting` on `providers`, by the names onnxruntime has for them."""
    settings = engine.PRESETS[setting.preset] | (engine.ON_CPU if setting.provider == "cpu" else {})
    entries = (f'options.add_session_config_entry("{key}", "{value}")\n' for key, value in settings.items())
    return (
        "import onnxruntime\n"
        "options = onnxruntime.SessionOptions()\n"
        f"options.intra_op_num_threads = {setting.threads}\n"
        f"{''.join(entries)}"
        f"session = onnxruntime.InferenceSession({str(setting.model)!r}, options, providers={list(providers)!r})\n"
    )
