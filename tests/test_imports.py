"""The direction of imports, and how little the first word costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tledge"

# Each line may import what stands on the lines below it; rooms on one line do not know one another.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"commands"},
    {"measurement", "report"},
    {"model", "heads", "features", "finetune"},
    {"runtime", "reading"},
    {"feed"},
    {"backbones", "data", "augment"},
    {"views"},
    {"modalities"},
    {"decode", "decode_sound"},
    {"sound_formats"},
    {"engine", "gpu", "native"},
    {"installation"},
    {"placement", "tensorrt"},
    {"places", "documents", "machine", "seal", "reference", "safe_pickle", "decisions", "keras_process", "half"}
    | {"outline", "graph_writer"},
    {"schema"},
    {"errors"},
)
RUNTIME_MAY_USE = {
    "modalities",
    "decisions",
    "decode",
    "decode_sound",
    "native",
    "engine",
    "feed",
    "machine",
    "seal",
    "schema",
    "errors",
}
HEAVY = {"tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy", "PIL", "pygal", "jinja2", "matplotlib"}


def rank(room: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if room in rooms)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    """Return the rooms of tledge that the file imports, at its top or inside functions; `__init__` for the package."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by the full name"
            whole = node.module == "tledge"
            modules += [f"tledge.{alias.name}" for alias in node.names] if whole else [node.module]
    return {name.split(".")[1] for name in modules if name.startswith("tledge.")}


def files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = room_of(path)
    known = set().union(*LAYERS)
    below = {other for other in known if rank(other) > rank(room)} | {room, "_kernels", "__version__"}
    assert imported_rooms(path) <= below


def test_every_room_has_its_place():
    found = {room_of(path) for path in files()}
    assert found == set().union(*LAYERS)


def test_the_runtime_stands_on_little():
    assert imported_rooms(PACKAGE / "runtime.py") <= RUNTIME_MAY_USE


def test_tensorflow_is_imported_in_one_place():
    homes = {
        path.parent.relative_to(PACKAGE).as_posix()
        for path in files()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "tensorflow" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tensorflow")
    }
    assert homes == {"backbones/from_keras"}


def loaded_after(code: str) -> set[str]:
    child = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nsys.stderr.write(' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in child.stderr.split()}


@pytest.mark.parametrize(
    "code",
    [
        "import tledge",
        "import tledge; dir(tledge); tledge.__version__; tledge.TledgeError",
        "import tledge.cli",
        "import sys, tledge.cli\nsys.argv = ['tledge', '--help']\ntry: tledge.cli.main()\nexcept SystemExit: pass",
    ],
    ids=["import", "names", "command line", "help"],
)
def test_the_first_word_loads_nothing_heavy(code):
    assert not loaded_after(code) & HEAVY


def test_the_package_names_what_it_offers():
    import tledge

    for name in tledge.__all__:
        assert getattr(tledge, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = tledge.nonsense
