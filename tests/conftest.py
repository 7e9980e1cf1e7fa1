"""Fixtures that several test files use."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from edgevit.core import memory
from edgevit.core.engine import Setting, load_engine
from edgevit.core.isa import TIERS, TierName, list_tiers
from edgevit.core.memory import collect_new_alone
from edgevit.core.report.report import ColdStart
from edgevit.measure.cold_start import measure_cold_start
from tests.support.exports_folder import SHARED_EXPORTS, name_exports
from tests.support.gpu_double import Machine, install_everywhere
from tests.support.memory_folder import TESTS, make_memory_folder
from tests.support.under_tier import ALL_CORES

MEMORY, FAILED = pytest.StashKey[Path](), pytest.StashKey[bool]()

# A deadline and the check of how fast examples are drawn measure the machine, which may be busy.
settings.register_profile("edgevit", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("edgevit"), max_examples=500)
settings.register_profile("fuzz", settings.get_profile("edgevit"), max_examples=20_000, database=None)
settings.load_profile("edgevit")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A process a core, and one that waits: tests/remote, the first chain, is on Ray, ssh and boards for minutes."""
    return _count_cores() + 1


def pytest_configure(config: pytest.Config) -> None:
    """A run of several processes writes to memory, and each of these has a core of its own, also for what it starts.

    One more than there are cores has all of them.

    Engine libraries start a thread for every core, and these spin; two processes with two threads each on two cores
    wait for one another longer than they compute. What runs engines under a tier takes all cores again
    (:mod:`tests.support.under_tier`), so that kernels are run with several threads too.
    """
    gc.set_threshold(20_000, 10, 50)  # Python's own 700 spends a seventh of the time of the tests of exports
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    several = not worker and getattr(config.option, "numprocesses", None)
    if several and config.option.basetemp is None and (folder := make_memory_folder()):
        config.stash[MEMORY] = folder
        config.option.basetemp, os.environ["TMPDIR"] = folder / TESTS, str(folder)
    if not worker or not hasattr(os, "sched_setaffinity"):
        return
    count, place = int(os.environ["PYTEST_XDIST_WORKER_COUNT"]), int(worker.removeprefix("gw"))
    cores = sorted(os.sched_getaffinity(0))
    os.environ[ALL_CORES] = ",".join(map(str, cores))
    if count == len(cores) + 1:  # the first has the chain that waits
        count, place = count - 1, place - 1
    if own := cores[place::count] if place >= 0 else []:
        os.sched_setaffinity(0, own)


def pytest_unconfigure(config: pytest.Config) -> None:
    """What tests wrote to memory goes, unless one failed, whose files somebody may want to look at."""
    if (folder := config.stash.get(MEMORY, None)) is not None and not config.stash.get(FAILED, True):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[FAILED] = exitstatus == pytest.ExitCode.TESTS_FAILED


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One process runs a file, or a folder that shares a session's fixture, so that a model is built once.

    pytest-xdist 3.8 looks for its group marks in an attribute that pytest 9.2 does not read any more, so that they do
    nothing. Files come in the order of collection, in which the long ones are first; xdist's own order, by the number
    of tests, puts builds of half a minute at the end, where the other process waits.
    """
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return next((f for f in ("tests/cli/", "tests/remote/") if file.startswith(f)), file)

    config.option.loadscopereorder = False
    return ByFile(config, log)


LONGEST = ("tests/remote/", "tests/parity/", "tests/cli/", "tests/acceptance/", "tests/build/")
"""What one process computes for minutes, or has files of half a minute; what is not named here has short ones."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest chains that one process runs come first, so that none waits for them at the end."""
    items.sort(key=lambda item: next((i for i, f in enumerate(LONGEST) if item.nodeid.startswith(f)), len(LONGEST)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Which instruction sets engines were run under: machines differ, and those of CI too."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    properties = [pair for report in reports for pair in getattr(report, "user_properties", ())]
    covered = {value for name, value in properties if name == "instruction set"}
    if covered:
        able = {name: tier.title for name, tier in TIERS.items() if tier.limit is not None}
        seen = ", ".join(title for name, title in able.items() if name in covered)
        absent = ", ".join(title for name, title in able.items() if name not in list_tiers()) or "none"
        terminalreporter.write_line(f"instruction sets covered: {seen}; not on this machine: {absent}")


@pytest.fixture(scope="session", autouse=True)
def exporter() -> Iterator[None]:
    """torch's exporter reads all its operators anew at every export, a third of a small model's; here once.

    Their sources are parsed, their signatures read, and the dispatcher's operators made attributes. Nothing that is
    tested registers operators of its own.
    """
    if "torch" not in sys.modules:
        yield
        return
    from torch._export import utils
    from torch.onnx._internal.exporter import _registration

    registry = _registration.ONNXRegistry
    with pytest.MonkeyPatch.context() as patch:
        apis = _registration.onnxscript_apis
        patch.setattr(apis, "get_torchlib_ops", functools.cache(apis.get_torchlib_ops))
        patch.setattr(registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib)))
        patch.setattr(utils, "_materialize_cpp_cia_ops", functools.cache(utils._materialize_cpp_cia_ops))
        yield


@pytest.fixture(scope="session", autouse=True)
def imports_left_alone() -> Iterator[None]:
    """As under the command line, or a quantisation would take half as long again to look at torch's objects."""
    with collect_new_alone():
        yield


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """Files are not waited for until the disk has them: each wait takes all that other tests have just written along.

    That files are, before others count on them, is tested by what ``os.fsync`` is given.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def pages_kept() -> Iterator[None]:
    """Freed pages stay with the process.

    To give them back takes a tenth of a second and more where thousands of small tests have left holes in all of them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_find_trim", lambda: None)
        yield


_seen: tuple[Path, int] = Path(), 0


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What earlier tests imported and still hold is left alone by collections too, a fifth of whose time it was.

    torch's exporter, sympy and the references are imported by the first test that needs them, and what a session's
    fixtures and caches hold grows from file to file.
    """
    global _seen
    path, imported = _seen
    if item.path == path and len(sys.modules) < imported + 50:
        return
    _seen = item.path, len(sys.modules)
    if imported:  # the first test's session freezes what there is before it
        gc.collect()
        gc.freeze()


@pytest.fixture
def thawed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which nothing is frozen yet."""
    gc.unfreeze()
    monkeypatch.setattr(memory, "_within", False)
    yield
    gc.freeze()


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real checkpoints and photos, in $EDGEVIT_ASSETS or beside the repository."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "assets"
    folder = Path(os.environ.get("EDGEVIT_ASSETS", beside))
    if not folder.is_dir():
        pytest.skip("assets are absent: set EDGEVIT_ASSETS")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A build cache of the tests' own, and a folder for files that they export, shared by all processes of a run.

    Both outlive the run, in pytest's cache, which ``--cache-clear`` empties: a stage knows the code and the packages
    that it was made by, and so does the folder of exported files.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    if (kept := getattr(request.config, "cache", None)) is not None:  # None with -p no:cacheprovider
        base = kept.mkdir("edgevit")
    stages, exports = base / "shared-cache", base / "shared-exports" / name_exports()
    with pytest.MonkeyPatch.context() as patch:
        for variable, folder in (("EDGEVIT_CACHE", stages), (SHARED_EXPORTS, exports)):
            folder.mkdir(parents=True, exist_ok=True)
            patch.setenv(variable, str(folder))
        patch.setenv("EDGEVIT_CACHE_BYTES", str(2 << 30))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_cold_start() -> Iterator[None]:
    """Builds start a fresh process, not three, for the first engine of a library and a precision, and for no other.

    What it costs is none of the tests' matter but for ``tests/measure/test_cold_start.py``, which calls it itself.
    """
    known: dict[tuple[str, str, TierName | None], ColdStart] = {}

    def measure_once(
        directory: Path, *, settings: Mapping[str, Setting] | None = None, tier: TierName | None = None
    ) -> ColdStart:
        engine = load_engine(directory)
        key = engine.backend, engine.precision, tier
        if key not in known:
            known[key] = measure_cold_start(directory, processes=1, settings=settings, tier=tier)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(measure_cold_start.__kwdefaults__, "processes", 1)
        patch.setattr("edgevit.build.here.measure_cold_start", measure_once)
        yield


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """This process, and those that it starts, see a Jetson Orin with TensorRT 10.3."""
    return install_everywhere("orin", monkeypatch)


@pytest.fixture
def rtx_3060(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """This process, and those that it starts, see a GeForce RTX 3060 with TensorRT-RTX 1.7.1."""
    return install_everywhere("rtx-3060", monkeypatch)
