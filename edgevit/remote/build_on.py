"""``build`` and ``finish`` on another machine: what is compiled and measured there comes back as a finished bundle."""

from __future__ import annotations

import contextlib
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.build.build import build_model
from edgevit.build.conclude import BuildResult
from edgevit.build.finish import refuse_finished
from edgevit.build.lock import OutputLock, lock_output
from edgevit.build.pack import check_output, pack_bundle
from edgevit.build.portable import read_portable_recipe
from edgevit.core import schema
from edgevit.core.command import write_command
from edgevit.core.errors import EdgevitError, OutputError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.report import Report
from edgevit.remote.job import Job, list_bundle, run_job
from edgevit.remote.probe import estimate_environment, probe_device
from edgevit.remote.ssh import Connection
from edgevit.remote.ssh_errors import OutOfReachError
from edgevit.remote.transfer import hash_job
from edgevit.remote.wheel import pack_wheel
from edgevit.runtime.bundle import REPORT_FILE, Bundle, verify_bundle
from edgevit.runtime.manifest import hash_file
from edgevit.runtime.pack_file import lend_folder

if TYPE_CHECKING:
    from edgevit.core.target import Target

ENGINES = 3
"""Times the graphs' size: their engines in the cache, one while it is made, and the bundle."""


def finish_on(
    host: str,
    path: Path,
    *,
    out: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
    progress: Progress = ignore_progress,
) -> BuildResult:
    """Compile and measure a portable bundle on a device over ssh, and bring the finished one back.

    As :func:`edgevit.build.finish.finish_bundle`, which runs there. A call that was broken off goes on when it is made
    again.

    Args:
        host: What ``ssh`` takes.
        path: The portable bundle.
        out: The finished bundle's folder; the portable one is replaced by default.
        log: Told every line that the device says.
        progress: Told while files are sent and fetched.

    Raises:
        BundleError: The bundle is damaged, or has an engine already.
        DeviceError: The device is out of reach, is not the right one or lacks something, or the work failed there; with
            the last lines of its log.
    """
    refuse_finished(path, "--on", host)
    with lend_folder(path) as folder:
        if out is None and folder != Path(path):
            raise OutputError(f"{path} is a packed bundle, which finish does not replace", "give --out, a folder")
        return _finish_on(host, folder, out or Path(path), log, progress)


def _finish_on(host: str, path: Path, out: Path, log: Callable[[str], None], progress: Progress) -> BuildResult:
    connection, bundle = Connection(host), verify_bundle(path)
    target = bundle.manifest.target
    read_portable_recipe(bundle)  # refused here, before it travels
    found = probe_device(connection, target, finishes=True)
    log(found.describe())
    with lock_output(out) as lock, pack_wheel() as wheel:
        check_output(out)
        extras = ("finish", LIBRARIES[target.backend].extra)
        job = Job(
            name="finish-" + _identify(host, out, bundle, wheel),
            arguments=("-m", "edgevit", "finish", "input/bundle", "--out", "output/bundle", "--json"),
            files={**list_bundle("bundle", bundle), wheel.name: wheel},
            extras=extras,
            cache_folder=f"{target.backend}/timing" if target.backend == "tensorrt" else "",
            reserve_bytes=ENGINES * bundle.size_bytes + estimate_environment(connection, found, target, extras),
        )
        with _keep_partial(out) as folder:
            run_job(connection, job, folder, log=log, progress=progress)
            return _take(folder, out, lock)


def _take(folder: Path, out: Path, lock: OutputLock) -> BuildResult:
    finished = folder / "bundle"
    if not finished.is_dir():  # nothing computes what the model computes: there is only a report
        report = Report.load(folder / f"bundle.{REPORT_FILE}")
        report.save(out.with_name(f"{out.name}.{REPORT_FILE}"))
        return BuildResult(None, report, None)
    bundle = verify_bundle(finished)
    report = Report.load(finished / REPORT_FILE)
    files: dict[str, Path | bytes] = {name: finished / name for name in bundle.manifest.files}
    packed = pack_bundle(out, files=files, manifest=bundle.manifest, lock=lock)
    return BuildResult(packed.path, report, packed.manifest)


def build_on(
    host: str,
    source: str | Path,
    target: Target,
    *,
    out: str | Path,
    log: Callable[[str], None] = lambda line: None,
    progress: Progress = ignore_progress,
    **options: Any,
) -> BuildResult:
    """Build here what can be built here, and compile and measure it on a device over ssh.

    The device is asked before the build begins. The portable bundle lies beside ``out``, as ``OUT.portable``, until the
    device has finished it; where that fails it stays there for ``edgevit finish OUT.portable --on HOST --out OUT``.

    Args:
        host: What ``ssh`` takes.
        source: The checkpoint.
        target: What to build for.
        out: The finished bundle's folder.
        log: Told every line that the device says.
        progress: Told about every stage here.
        options: Of :func:`edgevit.build.build.build_model`.

    Raises:
        EdgevitError: As :func:`edgevit.build.build.build_model` and :func:`finish_on`.
    """
    out = Path(out)
    check_output(out)
    probe_device(Connection(host), target, finishes=True)
    portable = out.with_name(f"{out.name}.portable")
    built = build_model(source, target, out=portable, portable=True, progress=progress, **options)
    if built.bundle is None:
        return built
    try:
        result = finish_on(host, portable, out=out, log=log, progress=progress)
    except EdgevitError:
        command = write_command("finish", portable, "--on", host, "--out", out)
        log(f"the portable bundle is {portable}; to go on: {command}")
        raise
    except KeyboardInterrupt:
        shutil.rmtree(portable, ignore_errors=True)
        raise
    shutil.rmtree(portable, ignore_errors=True)
    return result


@contextlib.contextmanager
def _keep_partial(out: Path) -> Iterator[Path]:
    """A folder beside the bundle for what is fetched; it stays where the connection was lost, for the next time."""
    folder = out.resolve().with_name(f".{out.resolve().name}.edgevit-fetched")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except OutOfReachError:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _identify(host: str, out: Path, bundle: Bundle, wheel: Path) -> str:
    """The same for the same work, also where the build that made the portable bundle has run again since."""
    manifest = bundle.manifest
    contents = {name: record.sha256 for name, record in manifest.files.items() if name != REPORT_FILE}
    report = Report.load(bundle.path / REPORT_FILE)
    judged = [(v.name, v.accuracy, v.choice_accuracy) for v in report.variants]
    return hash_job(
        (host, platform.node(), str(out.resolve())),
        (
            sorted(contents.items()),
            schema.to_data(manifest.target),
            manifest.labels,
            schema.to_data(manifest.preprocess),
        ),
        (report.budget, schema.to_data(report.data), judged, report.notes),
        hash_file(wheel).sha256,
    )
