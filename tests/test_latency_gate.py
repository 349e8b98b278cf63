"""The latency gate of GitHub and GitLab: the shell steps of their YAML, run as those two run them."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from bench_documents import save
from conftest import make_model

import tledge
from tledge import documents

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / ".github/actions/latency-gate/action.yml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
TEMPLATE = yaml.safe_load((ROOT / ".gitlab/latency-gate.yml").read_text())[".latency-gate"]
GITHUB = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]


@dataclass
class Ran:
    """What a step of the action left behind."""

    code: int
    outputs: dict[str, str]
    summary: str
    log: str


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that holds model.onnx, which is the current folder."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    make_model(checkout / "model.onnx")
    shutil.rmtree(checkout / "graphs")
    monkeypatch.chdir(checkout)
    return checkout


def step(name: str, inputs: dict[str, str], folder: Path, **more: str) -> Ran:
    """Run the step `name` of the action with `inputs` as GitHub would."""
    (found,) = [each for each in ACTION["runs"]["steps"] if each["name"] == name]
    given = {key: str(each.get("default", "")) for key, each in ACTION["inputs"].items()} | inputs
    assert given.keys() == ACTION["inputs"].keys(), "no such input"
    values = {f"inputs.{key}": value for key, value in given.items()}
    values |= {"steps.install.outputs.python": sys.executable}
    environment = {
        key: re.sub(r"\$\{\{ (.*?) \}\}", lambda match: values.get(match[1], ""), text)
        for key, text in found["env"].items()
    }
    files = {name: folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "script.sh")}
    for path in files.values():
        path.write_text("")
    files["script.sh"].write_text(found["run"])
    environment |= {name: str(path) for name, path in files.items() if name.startswith("GITHUB")}
    environment |= {"RUNNER_TEMP": str(folder), "GITHUB_ACTIONS": "true", "CI": "true", **more}
    ran = subprocess.run([*GITHUB, files["script.sh"]], env=os.environ | environment, capture_output=True, text=True)
    said = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    return Ran(ran.returncode, said, files["GITHUB_STEP_SUMMARY"].read_text(), ran.stdout + ran.stderr)


def gate(checkout: Path, /, **inputs: str) -> Ran:
    given = {"model": "model.onnx", "seconds": "0.2"} | {key.replace("_", "-"): each for key, each in inputs.items()}
    return step("Measure and judge", given, checkout.parent)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document of a bench of the model that every checkout holds. Not to be changed."""
    model = make_model(tmp_path_factory.mktemp("measured") / "model.onnx")
    found = documents.plain(tledge.bench(model, seconds=0.2, scenarios=["single_stream"]))
    return found | {"model": model.name}


def baseline(measured: dict[str, Any], place: Path, factor: float = 1.0, **machine: str) -> str:
    """Save what was `measured`, its latencies `factor` times as long; return the name of the file."""
    found = copy.deepcopy(measured)
    for part, names in (
        ("single_stream", ("p50_ms", "p50_low_ms", "p50_high_ms")),
        ("reference", ("ratio", "low", "high")),
    ):
        figures = found["scenarios"].get(part) or found.get(part) or {}
        figures.update({name: figures[name] * factor for name in names if name in figures})
    found["machine"] |= machine
    return save(found, place / "baseline.json").name


# ── GitHub ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pass_leaves_all_files_and_says_so(place: Path):
    ran = gate(place, against="model.onnx", max_regression="100000%", label="4f1c9d0")
    assert ran.code == 0, ran.log
    assert ran.outputs["verdict"] == "pass" and float(ran.outputs["ratio"]) > 0
    assert ran.summary.startswith("### ✅ Pass: model.onnx") and "4f1c9d0" in ran.summary
    assert sorted(path.name for path in Path("latency-gate").iterdir()) == [
        "bench.html", "bench.json", "bench.md", "bench.xml",
    ]  # fmt: skip
    assert "::error" not in ran.log and "::warning" not in ran.log


def test_a_regression_fails_with_its_reason(place: Path, measured: dict[str, Any]):
    ran = gate(place, against=baseline(measured, place, factor=1e-4))
    assert ran.code == 1 and ran.outputs["verdict"] == "regression"
    assert ran.summary.startswith("### ❌ Regression")
    (said,) = re.findall("^::error title=Latency gate::(.*)$", ran.log, re.M)
    assert "%25" in said and not re.search("%(?!25)", said)


def test_what_cannot_be_told_is_a_warning_unless_asked_otherwise(place: Path, measured: dict[str, Any]):
    against = baseline(measured, place, cpu="another processor")
    ran = gate(place, against=against)
    assert ran.code == 0 and ran.outputs == {"verdict": "inconclusive", "ratio": ""}
    assert "::warning title=Latency gate is inconclusive::" in ran.log and ran.summary.startswith("### ⚠️")
    strict = gate(place, against=against, fail_on_inconclusive="true")
    assert strict.code == 3 and "::error" in strict.log and strict.outputs["verdict"] == "inconclusive"


def test_without_a_comparison_it_measures(place: Path):
    ran = gate(place, arguments="--scenario=single_stream\n\n--threads=1\n", folder="else where")
    assert ran.code == 0 and ran.outputs == {"verdict": "none", "ratio": ""}
    document = json.loads(Path("else where/bench.json").read_text())
    assert document["threads"] == 1 and list(document["scenarios"]) == ["single_stream"]


def test_bad_input_fails_and_leaves_nothing_of_an_earlier_run(place: Path):
    assert gate(place).code == 0
    Path("latency-gate/notes.txt").write_text("mine")
    for wrong in ({"model": "gone.onnx"}, {"against": "gone.onnx"}, {"seconds": "long"}, {"arguments": "--colour"}):
        ran = gate(place, **wrong)
        assert ran.code == 2 and "Nothing was measured" in ran.log and not ran.summary, wrong
        assert [path.name for path in Path("latency-gate").iterdir()] == ["notes.txt"]


def test_inputs_are_never_run_as_shell(place: Path):
    name = "a b;touch x $(touch y) `touch z` '\".onnx"
    Path("model.onnx").rename(name)
    ran = gate(place, model=name, label="$(touch x)\n::error::x", arguments="--label=`touch y`")
    assert ran.code == 0 and not any(Path(each).exists() for each in "xyz")
    assert json.loads(Path("latency-gate/bench.json").read_text())["label"] == "`touch y`"
    Path(name).rename("-model.onnx")
    assert gate(place, model="-model.onnx").code == 0


def test_an_environment_of_its_own_is_installed_into(place: Path, tmp_path: Path):
    for name in ("one", "two"):
        with zipfile.ZipFile(tmp_path / f"{name}_x-1-py3-none-any.whl", "w") as wheel:
            info = f"{name}_x-1.dist-info"
            wheel.writestr(f"{name}_x.py", "")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}_x\nVersion: 1\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    wanted = "\n".join(f"{tmp_path}/{name}_x-1-py3-none-any.whl" for name in ("one", "two"))
    ran = step("Install tledge", {"python": sys.executable, "install": wanted + "\n\n"}, tmp_path)
    assert ran.code == 0, ran.log
    assert ran.outputs["python"] == str(tmp_path / "latency-gate/bin/python")
    subprocess.run([ran.outputs["python"], "-c", "import one_x, two_x"], check=True)


@pytest.mark.parametrize("nothing", ["", " \n"])
def test_what_is_installed_is_used_when_asked_for(tmp_path: Path, nothing: str):
    ran = step("Install tledge", {"python": "python3", "install": nothing}, tmp_path)
    assert ran.code == 0 and ran.outputs == {"python": "python3"} and not (tmp_path / "latency-gate").exists()


def test_outputs_are_those_of_steps_that_exist():
    steps = {each.get("id") for each in ACTION["runs"]["steps"]}
    for output in ACTION["outputs"].values():
        (step_id,) = re.findall(r"steps\.(\w+)\.outputs", output["value"])
        assert step_id in steps


def test_our_own_workflow_uses_the_action_with_inputs_that_it_has():
    steps = WORKFLOW["jobs"]["latency"]["steps"]
    (given,) = [each["with"].keys() for each in steps if each.get("uses") == "./.github/actions/latency-gate"]
    assert {key for key, each in ACTION["inputs"].items() if each.get("required")} <= given <= ACTION["inputs"].keys()


def test_the_page_on_ci_names_every_input_and_real_options():
    page = (ROOT / "docs/ci.md").read_text()
    assert not {name for name in ACTION["inputs"] if f"`{name}`" not in page}
    (line,) = re.findall(r"^    (tledge bench model.onnx .*)$", page, re.M)
    shown = subprocess.run([sys.executable, "-m", "tledge", "bench", "-h"], capture_output=True, text=True, check=True)
    assert set(re.findall(r"--[a-z]+", line)) <= set(re.findall(r"--[a-z]+", shown.stdout))


# ── GitLab ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def gitlab(shell: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    given = {key: str(value) for key, value in TEMPLATE["variables"].items()}
    given |= {"LATENCY_INSTALL": "", "LATENCY_PYTHON": sys.executable, "LATENCY_SECONDS": "0.2", **variables}
    script = "\n".join(TEMPLATE["script"])
    return subprocess.run([*shell, "-ec", script], env=os.environ | given, capture_output=True, text=True)


@pytest.mark.parametrize("shell", [["sh"], ["bash", "-o", "pipefail"]], ids=["sh", "bash"])
def test_the_job_of_gitlab_exits_as_the_verdict_says(place: Path, measured: dict[str, Any], shell: list[str]):
    against = baseline(measured, place, cpu="another processor")
    assert gitlab(shell, LATENCY_AGAINST=against, CI_COMMIT_SHA="abc").returncode == 3
    assert TEMPLATE["allow_failure"]["exit_codes"] == [3]
    kept = {*TEMPLATE["artifacts"]["paths"], TEMPLATE["artifacts"]["reports"]["junit"]}
    assert {str(path) for path in Path("latency-gate").iterdir()} == kept
    assert json.loads(Path("latency-gate/bench.json").read_text())["label"] == "abc"
    assert gitlab(shell, LATENCY_MODEL="gone.onnx").returncode == 2 and not any(Path("latency-gate").iterdir())


def test_a_regression_fails_the_job_of_gitlab(place: Path, measured: dict[str, Any]):
    assert gitlab(["sh"], LATENCY_AGAINST=baseline(measured, place, factor=1e-4)).returncode == 1


# ── Linting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_linter_sees_every_script(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    spec = importlib.util.spec_from_file_location("shell_steps", ROOT / ".ci" / "shell_steps.py")
    linter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(linter)
    runs = [each["run"] for each in ACTION["runs"]["steps"] if "run" in each]
    assert list(linter.scripts(ACTION)) == runs and list(linter.scripts({".job": TEMPLATE})) == TEMPLATE["script"]
    assert linter.main() == 0, capfd.readouterr().out
    monkeypatch.setattr(linter, "scripts", lambda _: ["echo $unquoted"])
    assert linter.main() == 1


def test_the_model_that_our_gate_judges_is_drawn_the_same_every_time(tmp_path: Path):
    spec = importlib.util.spec_from_file_location("gate_model", ROOT / ".ci" / "gate_model.py")
    maker: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    drawn = [sorted(maker.draw(tmp_path / name).rglob("*.png")) for name in "ab"]
    first, second = ([path.read_bytes() for path in paths] for paths in drawn)
    assert first == second and len(set(first)) == 48
