"""MLCommons' LoadGen, which makes the load of MLPerf Inference, keeps its rules and says whether a run was valid.

Source: github.com/mlcommons/inference, loadgen/ (test_settings.h, results.cc, mlperf.conf); inference_policies,
inference_rules.adoc.
"""

from __future__ import annotations

import json
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tledge import places
from tledge.errors import MissingExtra, TledgeError
from tledge.measurement.load.latencies import undisturbed
from tledge.schema import Validity

MLPERF_S = 600.0
_LOG = ":::MLLOG "
# Queries that are still open when the server scenario gives up. Ours answers one before it takes the next.
_MOST_OPEN = 2

# What is under test: it is given the ids of a query's samples, which are answered when it returns, and their numbers.
Answer = Callable[[Sequence[int], Sequence[int]], None]


@dataclass(frozen=True, slots=True)
class Run:
    """What LoadGen found: its figures by the names of its log, and whether the run was valid."""

    figures: dict[str, Any]
    validity: Validity


class LoadGen:
    """Makes the load of a scenario for as long as is asked, or by MLPerf's rules with `mlperf`.

    Logs are kept in `logs`/SCENARIO, where that is given. Raises MissingExtra when LoadGen is not installed.
    """

    def __init__(self, *, mlperf: bool = False, logs: Path | None = None) -> None:
        self._module = _load()
        self.mlperf, self._logs = mlperf, logs
        self._stop = threading.Event()

    @staticmethod
    def installed() -> bool:
        """Return whether LoadGen can be imported."""
        try:
            _load()
        except MissingExtra:
            return False
        return True

    @property
    def interrupted(self) -> bool:
        """Return whether Ctrl-C was pressed, so that nothing more needs an answer."""
        return self._stop.is_set()

    def run(
        self,
        scenario: str,
        answer: Answer,
        *,
        samples: int,
        seconds: float,
        conforming: bool = True,
        label: str = "",
        **settings: Any,
    ) -> Run:
        """Run `scenario` (LoadGen's own word) over `samples` different samples for `seconds` and return what it found.

        With `mlperf`, a `conforming` run takes MLPerf's duration and number of queries instead; others keep no logs
        then. `label` tells apart the logs of several runs of a scenario. `settings` are fields of LoadGen's
        TestSettings. What `answer` raises ends the run and is raised again.
        """
        mlperf = self.mlperf and conforming
        with tempfile.TemporaryDirectory(prefix="tledge-") as folder:
            self._start(self._settings(scenario, seconds, mlperf, settings), answer, samples, Path(folder))
            if self._logs and mlperf == self.mlperf:
                _keep(Path(folder), self._logs / (scenario + label))
            said = _read(Path(folder))
        return Run(said, _validity(said, mlperf))

    def _settings(self, scenario: str, seconds: float, mlperf: bool, settings: dict[str, Any]) -> Any:
        found = self._module.TestSettings()
        if mlperf:  # what its own mlperf.conf says of any model
            found.FromConfig("", "tledge", scenario, 0)
        else:
            found.min_duration_ms, found.min_query_count = max(1, round(1000 * seconds)), 1
        found.scenario = getattr(self._module.TestScenario, scenario)
        found.mode = self._module.TestMode.PerformanceOnly
        if scenario == "Server":
            found.server_max_async_queries = _MOST_OPEN
        for name, value in settings.items():
            setattr(found, name, value)
        return found

    def _start(self, settings: Any, answer: Answer, samples: int, folder: Path) -> None:
        module, stop = self._module, self._stop
        failed: list[BaseException] = []
        held: list[int] = []
        response, complete = module.QuerySampleResponse, module.QuerySamplesComplete

        def issue(ids: list[int], numbers: list[int]) -> None:
            if not failed and not stop.is_set():
                try:
                    answer(ids, numbers)
                except BaseException as error:  # LoadGen's threads would not survive an exception that passes through
                    failed.append(error)
            elif server:
                held.extend(ids)  # so that it does not wait for all that is still due
                return
            complete([response(each, 0, 0) for each in ids])

        def flush() -> None:
            complete([response(each, 0, 0) for each in held])

        server = settings.scenario == module.TestScenario.Server
        sut = module.ConstructFastSUT(issue, flush)
        library = module.ConstructQSL(samples, samples, _nothing, _nothing)
        try:
            with _interrupts(stop), undisturbed():
                module.StartTestWithLogSettings(sut, library, settings, self._logging(folder), "")
        finally:
            module.DestroyQSL(library)
            module.DestroyFastSUT(sut)
        if stop.is_set():
            stop.clear()
            raise KeyboardInterrupt
        if failed:
            raise failed[0]

    def _logging(self, folder: Path) -> Any:
        found, output = self._module.LogSettings(), self._module.LogOutputSettings()
        output.outdir = str(folder)
        found.log_output, found.enable_trace = output, False
        return found


def _load() -> ModuleType:
    try:
        import mlperf_loadgen
    except ImportError as error:
        missing = MissingExtra("MLCommons' LoadGen", "bench")
        missing.hint += " Its wheels are for x86-64 alone; elsewhere it is built from github.com/mlcommons/inference."
        raise missing from error
    return mlperf_loadgen


def _nothing(numbers: list[int]) -> None:
    """Load or unload samples, which are in memory all the time."""


@contextmanager
def _interrupts(stop: threading.Event) -> Iterator[None]:
    """Note Ctrl-C in `stop` instead of raising it at any place of what LoadGen calls, which would end in a crash."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _keep(folder: Path, target: Path) -> None:
    with places.writing(target):
        target.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            (target / file.name).write_bytes(file.read_bytes())


def _read(folder: Path) -> dict[str, Any]:
    """Return the entries of LoadGen's detailed log, the last of each name. Raises TledgeError without a result."""
    found: dict[str, Any] = {}
    file = folder / "mlperf_log_detail.txt"
    if file.exists():
        for line in file.read_text(errors="replace").splitlines():
            if line.startswith(_LOG):
                entry = json.loads(line.removeprefix(_LOG))
                found[entry["key"]] = entry["value"]
    if "result_validity" not in found:
        raise TledgeError("LoadGen left no result in its log.", f"Check that there is room in {folder.parent}.")
    return found


def _validity(said: dict[str, Any], mlperf: bool) -> Validity:
    version = str(said.get("loadgen_version", "")).split()[0]
    valid = said["result_validity"] == "VALID"
    return Validity(valid, _why(mlperf) if valid else _why_not(said), version, mlperf)


def _why(mlperf: bool) -> str:
    if mlperf:
        return "as long, and as many queries, as MLPerf's rules ask for"
    return f"for the time asked for; MLPerf's rules ask for {MLPERF_S:g} s ('--mlperf')"


def _why_not(said: dict[str, Any]) -> str:
    """Return which of LoadGen's conditions did not hold."""
    reasons = {
        "result_perf_constraints_met": "latency is above its bound",
        "result_min_duration_met": f"it took less than {said['effective_min_duration_ms'] / 1000:.3g} s",
        "result_min_queries_met": f"there were fewer than {said['effective_min_query_count']} queries",
        "early_stopping_met": _sentence(said.get("early_stopping_result", "")),
    }
    return "; ".join(reason for key, reason in reasons.items() if said.get(key) is False) or "LoadGen reported errors"


def _sentence(bullets: str) -> str:
    """Return LoadGen's list of remarks as one line."""
    return " ".join(bullets.replace(" * ", " ").split()).removeprefix("Run unsuccessful. ").rstrip(".")
