"""The state of the machine: read from files drawn as the kernel writes them, judged with numbers, watched here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from test_energy import draw

from tledge.measurement.box import conditions, cpu_time, machine_state
from tledge.measurement.box.cpu_time import CpuTime
from tledge.schema import MachineState, SingleStream, Window

CORE = min(os.sched_getaffinity(0))
CALM = MachineState((3000.0, 800.0), "performance", {"cpu": 50.0}, 0, 0.1)
START = CpuTime(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
QUIET = CpuTime(10.0, 10.0, 20.0, 10.1, 0.0, 0.0)


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process be allowed core CORE alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CORE})
    yield
    os.sched_setaffinity(0, before)


def steady(p50: float = 10.0, p99: float = 12.0, windows: tuple[float, ...] = ()) -> SingleStream:
    timeline = tuple(Window(float(i), each, each) for i, each in enumerate(windows))
    return SingleStream(p50, p50, p99, p50, p99, p50, p50, p50, timeline=timeline, samples=1000)


# ── Read ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_sysfs_tells_of_clock_heat_and_throttling(tmp_path, one_core):
    cpu = tmp_path / "sys" / "devices" / "system" / "cpu" / f"cpu{CORE}"
    draw(cpu / "cpufreq", scaling_cur_freq=1510400, scaling_governor="schedutil")
    draw(cpu / "thermal_throttle", core_throttle_count=3, package_throttle_count=4)
    draw(cpu.with_name(f"cpu{CORE + 1}") / "cpufreq", scaling_cur_freq=99, scaling_governor="another")
    draw(tmp_path / "sys" / "class" / "thermal" / "thermal_zone0", type="cpu-thermal", temp=48250)
    draw(tmp_path / "sys" / "class" / "thermal" / "thermal_zone1", type="cv0-thermal")  # switched off: no reading
    draw(tmp_path / "sys" / "class" / "hwmon" / "hwmon2", name="k10temp", temp1_label="Tctl", temp1_input=61000)
    draw(tmp_path / "sys" / "class" / "hwmon" / "hwmon3", name="nvme", temp1_label="Composite", temp1_input=33000)
    draw(tmp_path / "proc", loadavg="1.25 0.90 0.80 2/345 6789")
    assert machine_state.read(tmp_path) == MachineState(
        (1510.4,), "schedutil", {"thermal_zone0 cpu-thermal": 48.25, "hwmon2 Tctl": 61.0}, 7, 1.25
    )


def test_a_machine_that_tells_nothing(tmp_path):
    assert machine_state.read(tmp_path) == MachineState((), None, {}, None, None)
    found = cpu_time.read(tmp_path)
    assert (found.total, found.busy, found.steal, found.throttled) == (0, 0, 0, None)
    document = conditions.judged(machine_state.read(tmp_path), machine_state.read(tmp_path), found, found, None)
    assert (document.own_cpu_share, document.others_cpu_share, document.steal_share) == (None, None, None)
    assert document.warnings == ()


def test_the_clock_of_cpuinfo_where_there_is_no_scaling(tmp_path, one_core):
    lines = [f"processor\t: {CORE + 1}\ncpu MHz\t\t: 99.0\n", f"processor\t: {CORE}\ncpu MHz\t\t: 2596.150\n"]
    draw(tmp_path / "proc", cpuinfo="\n".join(lines))
    assert machine_state.read(tmp_path).clock_mhz == (2596.15,)


def test_processor_time_is_that_of_our_cores_and_guests_count_once(tmp_path, one_core):
    tick = os.sysconf("SC_CLK_TCK")
    mine = " ".join(str(tick * each) for each in (100, 1, 20, 800, 30, 2, 3, 44, 50, 0))
    draw(tmp_path / "proc", stat=f"cpu  1 2 3\ncpu{CORE} {mine}\ncpu{CORE}9 7 7 7 7 7 7 7 7 7 7\nintr 1 2 3")
    found = cpu_time.read(tmp_path)
    assert (found.total, found.busy, found.steal) == pytest.approx((1000, 126, 44))


@pytest.mark.parametrize(
    ("cgroup", "files", "seconds"),
    [
        ("0::/", {"": "throttled_usec 2500000"}, 2.5),
        ("0::/outer/in", {"outer": "throttled_usec 1000000", "outer/in": "throttled_usec 500000"}, 1.5),
        ("0::/not/mounted/here", {"": "throttled_usec 1000000"}, 1.0),
        ("4:cpu,cpuacct:/docker/x\n0::/", {"cpu,cpuacct/docker/x": "throttled_time 3000000000"}, 3.0),
        ("4:cpu:/\n1:name=systemd:/", {"cpu": "throttled_time 1000000000"}, 1.0),
        ("0::/", {"": "usage_usec 5"}, None),
        ("", {}, None),
    ],
)
def test_time_that_a_container_was_held_up(tmp_path, cgroup, files, seconds):
    draw(tmp_path / "proc" / "self", cgroup=cgroup)
    for folder, line in files.items():
        place = tmp_path / "sys" / "fs" / "cgroup" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "cpu.stat").write_text(f"usage_usec 123\nnr_throttled 7\n{line}\n")
    assert cpu_time.read(tmp_path).throttled == seconds


# ── Judged ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_quiet_machine_gets_no_warning():
    found = conditions.judged(CALM, CALM, START, QUIET, steady(windows=(10.0, 10.4, 9.9)))
    assert found.warnings == ()
    assert (found.seconds, found.own_cpu_share, found.steal_share) == (10, 0.5, 0)
    assert found.others_cpu_share == pytest.approx(0.005)
    assert conditions.judged(CALM, CALM, START, QUIET, None).warnings == ()


@pytest.mark.parametrize(
    ("after", "times", "single", "words"),
    [
        (CALM, replace(QUIET, busy=12.0), steady(), "10% of the processor time went to other processes"),
        (CALM, replace(QUIET, steal=1.0), steady(), "5% of the processor time was taken by the host"),
        (CALM, replace(QUIET, throttled=0.25), steady(), "for 0.25 s"),
        (replace(CALM, throttle_events=3), QUIET, steady(), "slowed the processor down 3 times"),
        (replace(CALM, clock_mhz=(2100.0, 2100.0)), QUIET, steady(), "from 3000 to 2100 MHz"),
        (replace(CALM, temperatures_celsius={"cpu": 71.0}), QUIET, steady(), "cpu got 21 °C warmer"),
        (CALM, QUIET, steady(p99=31.0), "p99 is 3.1 × p50"),
        (CALM, QUIET, steady(windows=(10.0, 17.0, 9.5)), "between 9.50 and 17.00 ms"),
    ],
    ids=["others", "steal", "quota", "throttled", "clock", "heat", "tail", "drift"],
)
def test_each_thing_that_disturbs_is_named(after, times, single, words):
    (warning,) = conditions.judged(CALM, after, START, times, single).warnings
    assert words in warning


def test_a_few_ticks_are_no_disturbance():
    short = CpuTime(0.1, 0.1, 0.2, 0.14, 0.02, 0.0)
    assert conditions.judged(CALM, CALM, START, short, None).warnings == ()


def test_ticks_that_say_less_than_our_own_time_are_no_negative_share():
    found = conditions.judged(CALM, CALM, START, replace(QUIET, busy=9.9), None)
    assert found.others_cpu_share == 0


# ── Here ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_work_of_another_process_is_seen_here_and_our_own_is_not(one_core):
    watch = conditions.begin()
    code = "import time\nwhile time.process_time() < 0.4: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()  # it has had its time, and has not ended: until then it is none of our children
        busy = time.process_time() + 0.4
        while time.process_time() < busy:
            pass
        found = conditions.end(watch, None)
        other.communicate(b"\n")
    assert found.others_cpu_share * found.seconds > 0.3
    assert found.own_cpu_share * found.seconds == pytest.approx(0.4, abs=0.2)
