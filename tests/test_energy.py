"""Energy: against sysfs trees drawn as the kernel documents them, and a library with NVML's functions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import make_model

from tledge.measurement import Subject, open_subject
from tledge.measurement.box import energy
from tledge.measurement.box.energy import ina3221, nvml, rapl

COMPILER = os.environ.get("CXX", "g++")
RANGE_UJ = 262143328850
NVML = r"""
// What pynvml calls, with the signatures of NVML's reference: two GPUs, each of which adds 250 mJ per reading, or has
// no counter.
#include <cstdio>
static unsigned long long counters[2] = {1000, 5000};
extern "C" {
int nvmlInitWithFlags(unsigned) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &counters[index]; return 0; }
int nvmlDeviceGetName(void *, char *name, unsigned length) { std::snprintf(name, length, "Drawn"); return 0; }
const char *nvmlErrorString(int) { return "Not Supported"; }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
  if (WITHOUT_COUNTER) return 3;
  *millijoules = *static_cast<unsigned long long *>(device) += 250;
  return 0;
}
}
"""


def draw(folder: Path, **files: str | int) -> Path:
    """Write `files` into `folder` as sysfs shows them, each with an end of line; returns `folder`."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


def draw_zone(sysfs: Path, name: str, called: str, energy_uj: int = 5_000_000) -> Path:
    return draw(
        sysfs / "class" / "powercap" / name, name=called, energy_uj=energy_uj, max_energy_range_uj=RANGE_UJ, enabled=1
    )


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return open_subject(make_model(tmp_path / "model.onnx"), threads=1)


# ── RAPL ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rapl_tells_of_each_zone_once_by_the_name_of_its_place(tmp_path):
    draw(tmp_path / "class" / "powercap" / "intel-rapl", enabled=1)
    for name, called in {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "psys",
        "intel-rapl-mmio:0": "package-0",
    }.items():
        draw_zone(tmp_path, name, called)
    zones, reason = rapl.find(tmp_path)
    assert [zone.part for zone in zones] == ["package-0", "package-0/core", "package-0/dram", "psys"]
    assert not reason


@pytest.mark.parametrize(
    ("before", "after", "joules"),
    [(5_000_000, 7_500_000, 2.5), (5, 5, 0), (RANGE_UJ - 999_999, 1_000_000, 2.0), (RANGE_UJ, 0, 1e-6)],
)
def test_a_counter_of_rapl_that_starts_again_has_lost_nothing(tmp_path, before, after, joules):
    zone = draw_zone(tmp_path, "intel-rapl:0", "package-0", before)
    ((meter,), _) = rapl.find(tmp_path)
    meter.start()
    (zone / "energy_uj").write_text(f"{after}\n")
    assert meter.joules() == pytest.approx(joules)


def test_zones_that_may_not_be_read_are_said_to_be(tmp_path):
    draw_zone(tmp_path, "intel-rapl:0", "package-0")
    (draw_zone(tmp_path, "intel-rapl:1", "package-1") / "energy_uj").unlink()
    (tmp_path / "class" / "powercap" / "intel-rapl:1" / "energy_uj").mkdir()  # tests may run as root, who may read all
    zones, reason = rapl.find(tmp_path)
    assert [zone.part for zone in zones] == ["package-0"]
    assert "RAPL cannot be read" in reason


# ── INA3221 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_chip(sysfs: Path, number: int = 3) -> Path:
    """Draw the chip of a Jetson Orin Nano: three supplies, and the sum that the driver adds."""
    return draw(
        sysfs / "class" / "hwmon" / f"hwmon{number}",
        name="ina3221",
        in1_label="VDD_IN", in1_input=5000, curr1_input=2000,
        in2_label="VDD_CPU_GPU_CV", in2_input=4992, curr2_input=500,
        in3_label="VDD_SOC", in3_input=4976, curr3_input=250,
        in7_label="sum of shunt voltages", in7_input=12, curr4_input=2750,
    )  # fmt: skip


def test_ina3221_multiplies_volts_and_amperes(tmp_path):
    draw_chip(tmp_path)
    draw(tmp_path / "class" / "hwmon" / "hwmon0", name="tmp451", temp1_input=45000)
    channels, reason = ina3221.find(tmp_path)
    assert not reason
    assert {each.part: each.watts() for each in channels} == pytest.approx(
        {"VDD_IN": 10.0, "VDD_CPU_GPU_CV": 2.496, "VDD_SOC": 1.244}
    )


def test_supplies_that_are_not_connected_or_off_are_left_out(tmp_path):
    chip = draw_chip(tmp_path)
    (chip / "in2_label").write_text("NC\n")
    (chip / "curr3_input").unlink()
    assert [each.part for each in ina3221.find(tmp_path)[0]] == ["VDD_IN"]
    (chip / "in1_label").unlink()
    assert ina3221.find(tmp_path) == ([], "no INA3221 in /sys/class/hwmon")


def test_ina3221_adds_power_up_over_time_while_other_work_is_done(tmp_path):
    draw_chip(tmp_path)
    channel = ina3221.find(tmp_path)[0][0]
    start = time.perf_counter()
    channel.start()
    time.sleep(0.25)
    joules, spent = channel.joules(), time.perf_counter() - start
    assert len(channel.readings) >= 3
    assert 10 * 0.25 <= joules <= 10 * spent
    channel.start()  # a second time, from nothing
    assert channel.joules() < joules


def test_power_between_readings_is_taken_to_change_evenly(tmp_path):
    chip = draw_chip(tmp_path)
    channel = ina3221.find(tmp_path)[0][0]
    channel.readings += [(0.0, 4.0), (2.0, 8.0)]  # 12 J
    (chip / "curr1_input").write_text("0\n")
    now = time.perf_counter()
    assert channel.joules() == pytest.approx(12 + 8 / 2 * (now - 2), rel=1e-3)


# ── NVML ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_nvml(folder: Path, code: str, *, counter: bool = True) -> str:
    """Run `code` where NVIDIA's library is one of ours."""
    source, library = folder / "nvml.cpp", folder / "libnvidia-ml.so.1"
    source.write_text(NVML)
    define = f"-DWITHOUT_COUNTER={int(not counter)}"
    subprocess.run([COMPILER, "-shared", "-fPIC", define, source, "-o", library], check=True)
    done = subprocess.run(
        [sys.executable, "-c", f"from tledge.measurement.box.energy import nvml\n{code}"],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nvml_counts_each_gpu(tmp_path):
    code = "gpus, reason = nvml.find()\n[each.start() for each in gpus]\n"
    code += "print([(each.part, each.joules(), each.joules()) for each in gpus], repr(reason))"
    assert with_nvml(tmp_path, code) == "[('GPU 0 (Drawn)', 0.25, 0.5), ('GPU 1 (Drawn)', 0.25, 0.5)] ''"


def test_gpus_without_a_counter_are_said_to_have_none(tmp_path):
    assert with_nvml(tmp_path, "print(nvml.find())", counter=False) == "([], 'NVML does not tell (Not Supported)')"


def test_without_its_package_or_driver_nvml_gives_a_reason(monkeypatch):
    gpus, reason = nvml.find()
    assert gpus or "NVML does not tell" in reason
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.find() == ([], "no NVML (nvidia-ml-py is not installed: pip install 'tledge[bench]')")


# ── Per inference ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_energy_is_shared_out_among_the_runs(tmp_path, subject):
    """Every run of the graph takes 3 mJ here, from a counter that is about to start again."""
    zone = draw_zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 1000)

    class Counted:
        def run(self, *given: Any) -> Any:
            file = zone / "energy_uj"
            file.write_text(f"{(int(file.read_text()) + 3000) % (RANGE_UJ + 1)}\n")
            return subject.session.run(*given)

    counted = replace(subject, session=Counted())
    found, reason = energy.measure(counted, 0.05, energy.meters("cpu", tmp_path))
    (part,) = found.parts
    assert (part.source, part.part) == ("rapl", "package-0")
    assert part.joules_per_inference == pytest.approx(0.003)
    assert part.joules == pytest.approx(0.003 * found.inferences)
    assert part.watts == pytest.approx(part.joules / found.seconds)
    assert reason == "no INA3221 in /sys/class/hwmon"


def test_where_nothing_measures_energy_the_reasons_are_told(tmp_path, subject):
    found = energy.measure(subject, 0.0, energy.meters("cpu", tmp_path))
    assert found == (None, "no RAPL in /sys/class/powercap; no INA3221 in /sys/class/hwmon")
    assert "NVML" in energy.meters("cuda", tmp_path)[1] or energy.meters("cuda", tmp_path)[0]
