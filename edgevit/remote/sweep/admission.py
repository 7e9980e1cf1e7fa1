"""Admission: which nodes may take part: those that have the same edgevit, and see the same files."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgevit.core.errors import DeviceError, OutputError
from edgevit.remote.sweep.cluster import Cluster, answers
from edgevit.remote.sweep.work import find_version

ANSWER_SECONDS = 120.0
_MOST_NAMED = 3


class Admission:
    """Asks nodes what they have and see; :func:`open_admission` makes one.

    Args:
        mark: A new file in the sweep's folder of cells, so that no node sees one of the same name elsewhere.
        files: What the cells read.
    """

    def __init__(self, mark: Path, files: Iterable[Path]) -> None:
        self.mark = mark
        self.files = tuple(dict.fromkeys(str(path) for path in files))
        self.asked: dict[str, tuple[Any, float]] = {}

    def ask(self, nodes: Iterable[str]) -> None:
        """Ask nodes, by Ray's names of them."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        question: Any = ray.remote(num_cpus=0, max_retries=3)(_make_question())
        for node in nodes:
            where = NodeAffinitySchedulingStrategy(node, soft=False)
            reference = question.options(scheduling_strategy=where).remote(str(self.mark), self.files)
            self.asked[node] = reference, time.monotonic()

    def collect(self, seconds: float = 0) -> dict[str, str]:
        """Why each node that has answered by now may not take part; empty text where it may.

        Args:
            seconds: How long to wait for all of them.
        """
        import ray

        if not self.asked:
            return {}
        references = [reference for reference, _ in self.asked.values()]
        ray.wait(references, num_returns=len(references), timeout=seconds)
        found = {}
        for node, (reference, begun) in list(self.asked.items()):
            why = self._judge(_take(reference, time.monotonic() - begun >= ANSWER_SECONDS))
            if why is not None:
                found[node] = why
                del self.asked[node]
        return found

    def _judge(self, answer: Mapping[str, Any] | str | None) -> str | None:
        if answer is None or isinstance(answer, str):
            return answer
        version, missing = find_version(), answer["missing"]
        if not answer["version"]:
            return "has no edgevit"
        if answer["version"] != version:
            return f"has edgevit {answer['version']}, and this one is {version}"
        if not answer["mark"]:
            return f"does not see {self.mark.parent}"
        if not missing:
            return ""
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        return f"does not see {', '.join(missing[:_MOST_NAMED])}{more}"


@contextlib.contextmanager
def open_admission(folder: Path, files: Iterable[Path]) -> Iterator[Admission]:
    """An admission to a sweep whose cells lie in ``folder``, which is made.

    Raises:
        OutputError: The folder cannot be written.
    """
    mark = folder / f".seen-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".seen-*"):  # of a driver that was killed
            left.unlink(missing_ok=True)
        mark.touch(exist_ok=False)
    except OSError as exc:
        raise OutputError(f"{folder} cannot be written: {exc.strerror or exc}", "choose another --out") from exc
    try:
        yield Admission(mark, files)
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)


def refuse_nodes(cluster: Cluster, admission: Admission) -> None:
    """Refuse a cluster of which some nodes cannot take part, before the first build.

    Raises:
        DeviceError: In one sentence, each node and why; or the cluster is gone.
    """
    admission.ask(cluster.cpus)
    refused: dict[str, str] = {}
    while admission.asked:
        refused |= {node: why for node, why in admission.collect(1.0).items() if why}
        if cluster.head and not answers(cluster.head):
            raise DeviceError("the Ray cluster is gone: its head does not answer", "run again when it is there")
    if refused:
        nodes = "; ".join(f"{cluster.hosts.get(node, node)} {why}" for node, why in refused.items())
        raise DeviceError(
            f"{len(refused)} of {cluster.nodes} nodes cannot take part: {nodes}",
            "install the same edgevit on all nodes and mount the files at the same paths",
        )


def _make_question() -> Any:
    """A function that Ray sends whole, so that a node without this module answers too."""

    def look(mark: str, files: tuple[str, ...]) -> dict[str, Any]:
        import os
        from importlib import metadata

        try:
            version = metadata.version("edgevit")
        except metadata.PackageNotFoundError:
            version = ""
        missing = [path for path in files if not os.path.exists(path)]
        return {"version": version, "mark": os.path.exists(mark), "missing": missing}

    return look


def _take(reference: Any, late: bool) -> Mapping[str, Any] | str | None:
    """The answer, or why there is none; ``None`` where it may still come."""
    import ray

    try:
        answer: Mapping[str, Any] = ray.get(reference, timeout=0)
    except ray.exceptions.GetTimeoutError:
        if not late:
            return None
        ray.cancel(reference)
        return f"did not answer for {ANSWER_SECONDS:.0f} seconds"
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
        return ""  # it is gone, which is no reason to refuse those that are there
    except ray.exceptions.RayError as exc:
        return f"does not answer: {' '.join(str(exc).split())[:100]}"
    return answer
