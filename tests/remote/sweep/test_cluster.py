"""connect and what stands around it; most of it without a Ray."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgevit.build.lock import lock_output
from edgevit.core.errors import DeviceError
from edgevit.remote.sweep import session_folder
from edgevit.remote.sweep.admission import open_admission, refuse_nodes
from edgevit.remote.sweep.cluster import (
    Cluster,
    _mute_core,
    answers,
    connect,
    describe_cluster,
    look_again,
    read_cluster,
)
from edgevit.remote.sweep.result import CellResult
from edgevit.remote.sweep.run import State, run_jobs
from edgevit.remote.sweep.session_folder import make_session_folder, remove_abandoned
from tests.support.sweep_jobs import list_disturbed, make_steps, make_tasks, read_intervals

ray = pytest.importorskip("ray")


def find_free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def make_node(name: str, **resources: float) -> dict[str, object]:
    return {"NodeID": name, "Alive": True, "Resources": resources, "NodeManagerAddress": f"10.0.0.{name}"}


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_connect_says_at_once_that_nothing_answers(prefix, capfd):
    address = f"{prefix}127.0.0.1:{find_free_port()}"
    with pytest.raises(DeviceError, match=f"no Ray cluster answers at {address}"), connect(address):
        pass
    assert capfd.readouterr() == ("", "")  # Ray itself tries for two minutes, with a warning every five seconds


def test_connect_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    before = dict(os.environ)
    with pytest.raises(DeviceError), connect(f"127.0.0.1:{find_free_port()}"):
        pass
    assert dict(os.environ) == before


def test_what_a_core_says_that_hangs_is_shown(capfd):
    with _mute_core(0.05):
        os.write(2, b"how much it says\n")
        time.sleep(0.5)
        os.write(2, b"why this process ends\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "why this process ends\nafter\n"


def test_read_cluster_takes_the_nodes_that_take_part(monkeypatch):
    nodes = [make_node("a", edgevit=1, CPU=8, memory=100), make_node("b", CPU=8), make_node("c", edgevit=1, CPU=2)]
    dead = {**make_node("d", edgevit=1), "Alive": False}
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, dead])
    cluster = read_cluster()
    assert cluster == Cluster({"a": 8, "c": 2}, {"a": 100, "c": 0}, {"a": "10.0.0.a", "c": "10.0.0.c"})
    assert (cluster.nodes, cluster.slots) == (2, 1)
    assert describe_cluster(cluster) == "2 nodes: 1 with 2 CPUs, 1 with 8 CPUs"


@pytest.mark.parametrize(
    ("nodes", "why"),
    [([], "none of the 0 nodes"), ([make_node("a", CPU=8)], "none of the 1 nodes"),
     ([make_node("a", edgevit=1), make_node("b", edgevit=4)], "10.0.0.b: more than one of the resource")],
)  # fmt: skip
def test_read_cluster_refuses_what_cannot_be_measured_on(monkeypatch, nodes, why):
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    with pytest.raises(DeviceError, match=why):
        read_cluster()


def test_look_again_tells_a_silent_head_from_a_cluster_without_nodes(monkeypatch):
    monkeypatch.setattr(ray, "nodes", list)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        head = f"127.0.0.1:{listening.getsockname()[1]}"
        assert answers(head)
        assert look_again(Cluster({"a": 2}, head=head)) == Cluster({}, head=head)
    assert look_again(Cluster({"a": 2}, head=head)) is None
    assert not answers("nowhere")


def test_session_folder_ends_with_its_block_and_those_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(session_folder, "_LONGEST", 1000)
    monkeypatch.setattr("edgevit.remote.sweep.session_folder.tempfile.gettempdir", lambda: str(tmp_path))
    left = tmp_path / f"{session_folder.PREFIX}left"
    (left / "session").mkdir(parents=True)
    foreign = tmp_path / "something"
    foreign.mkdir()
    with make_session_folder() as folder:
        assert Path(folder).parent == tmp_path
        assert not left.exists()
        remove_abandoned(tmp_path)  # as another process would
        assert Path(folder).is_dir()
    assert [p.name for p in tmp_path.iterdir()] == ["something"]


def test_session_folder_of_a_long_temporary_folder_is_short(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "edgevit.remote.sweep.session_folder.tempfile.gettempdir", lambda: str(tmp_path / ("long" * 20))
    )
    with make_session_folder() as folder:
        assert len(folder) <= session_folder._LONGEST + 20


def test_another_process_keeps_its_session_folder(tmp_path):
    folder = tmp_path / f"{session_folder.PREFIX}running"
    folder.mkdir()
    code = "import sys\nfrom edgevit.build.lock import lock_output\n"
    code += "with lock_output(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        remove_abandoned(tmp_path)
        assert folder.is_dir()
        process.send_signal(signal.SIGKILL)
        process.wait()
    remove_abandoned(tmp_path)
    assert not folder.exists()
    with lock_output(folder):
        pass


_EMBEDDED = """
import os, sys, time
from edgevit.remote.sweep.cluster import connect
import ray
with connect(cpus=2) as cluster:
    from ray._common.usage import usage_lib
    assert not usage_lib.usage_stats_enabled()
    assert cluster.local and cluster.nodes == 1 and cluster.head, cluster
    assert ray.get(ray.remote(num_cpus=0)(os.getenv).remote("OMP_NUM_THREADS")) == os.environ["OMP_NUM_THREADS"]
    # As a build that is measured by itself.
    assert ray.get(ray.remote(num_cpus=0)(lambda: os.nice(0)).remote()) == os.nice(0)
"""


def test_connect_starts_a_ray_of_its_own_and_nothing_reaches_the_screen(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    other = {"RAY_ADDRESS": "10.255.255.1:6379"}  # another Ray, which is not joined
    environment = {**kept, **other, "TMPDIR": "/tmp"}
    done = subprocess.run(
        [sys.executable, "-c", _EMBEDDED], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture(scope="module")
def simulated():
    """A head that takes no part, and two nodes: processes of this machine."""
    from ray.cluster_utils import Cluster as Simulated

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        found = Simulated(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            for _ in range(2):
                found.add_node(num_cpus=4, resources={"edgevit": 1}, include_dashboard=False)
            yield found
        finally:
            found.shutdown()


@pytest.mark.slow
def test_nodes_that_have_another_edgevit_or_see_other_files_are_refused_in_one_sentence(
    simulated, tmp_path, monkeypatch
):
    source, absent = tmp_path / "source", tmp_path / "absent"
    source.touch()
    with connect(simulated.address) as cluster:
        assert (cluster.nodes, cluster.local) == (2, False)
        with open_admission(tmp_path / "cells", [source]) as admission:
            refuse_nodes(cluster, admission)
        with open_admission(tmp_path / "cells", [source, absent]) as admission:
            with pytest.raises(DeviceError) as caught:
                refuse_nodes(cluster, admission)
            assert caught.value.message.startswith("2 of 2 nodes cannot take part: ")
            assert caught.value.message.count(f"does not see {absent}") == 2
            admission.mark.unlink()
            with pytest.raises(DeviceError, match=f"does not see {tmp_path / 'cells'}"):
                refuse_nodes(cluster, admission)
        monkeypatch.setattr("edgevit.remote.sweep.admission.find_version", lambda: "9.9.9")
        with open_admission(tmp_path / "cells", [source]) as admission, pytest.raises(DeviceError, match=r"9\.9\.9"):
            refuse_nodes(cluster, admission)
    assert not list((tmp_path / "cells").iterdir())


@pytest.mark.slow
def test_nodes_measure_by_themselves_and_one_that_joins_late_is_used(simulated, tmp_path, monkeypatch):
    monkeypatch.setattr("edgevit.remote.sweep.run.WAVE", 2)
    monkeypatch.setattr("edgevit.remote.sweep.nodes.LOOK_SECONDS", 0.5)
    told: list[str] = []
    late: list[str] = []

    def listen(state: State, result: CellResult | None) -> None:
        if state.done == 5 and not late:
            late.append(simulated.add_node(num_cpus=4, resources={"edgevit": 1}, include_dashboard=False).node_id)

    with connect(simulated.address) as cluster:
        steps = make_steps(0.3, 0.5)
        results = run_jobs(make_tasks(tmp_path, 120), cluster, listen, steps=steps, note=told.append)
    intervals = read_intervals(tmp_path)
    assert len(results) == len({r.name for r in results if r.passed}) == 120
    assert list(list_disturbed(intervals)) == []
    assert told == [f"{host} has joined" for host in set(cluster.hosts.values())]  # all are this machine
    for step in ("prepare", "build"):
        assert late[0] in {line["node"] for line in intervals if line["step"] == step}
        assert len({line["node"] for line in intervals if line["step"] == step}) == 3
