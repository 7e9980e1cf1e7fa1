"""Nodes: what a sweep counts on while nodes come and go, without a Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgevit.core.errors import DeviceError
from edgevit.remote.sweep import nodes as module
from edgevit.remote.sweep.admission import Admission
from edgevit.remote.sweep.cluster import Cluster
from edgevit.remote.sweep.nodes import Nodes


class Asked(Admission):
    """An admission whose nodes answer at the next look."""

    def __init__(self, **why: str) -> None:
        super().__init__(Path("mark"), ())
        self.why, self.once = why, list[str]()

    def ask(self, nodes: Any) -> None:
        self.once += nodes
        self.asked |= dict.fromkeys(nodes, (None, 0.0))

    def collect(self, seconds: float = 0) -> dict[str, str]:
        found = {node: self.why.get(node, "") for node in self.asked if self.ready}
        for node in found:
            del self.asked[node]
        return found

    ready = True


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("edgevit.remote.sweep.nodes.time.monotonic", lambda: now[0])
    return now


def make_cluster(**memory: int) -> Cluster:
    return Cluster(dict.fromkeys(memory, 8), memory, {node: f"10.0.0.{node}" for node in memory}, "10.0.0.1:6379")


def follow(nodes: Nodes, clock: list[float], times: int = 1) -> None:
    for _ in range(times):
        clock[0] += module.LOOK_SECONDS + 1
        assert nodes.follow()


def test_nodes_looks_from_time_to_time(clock):
    nodes = Nodes(make_cluster(a=10), Asked(), print, lambda cluster: cluster)
    assert not nodes.follow()
    follow(nodes, clock)


def test_nodes_counts_on_a_node_that_joins_when_it_may_take_part(clock):
    told: list[str] = []
    asked = Asked(c="has edgevit 0.0.9, and this one is 0.1.0")
    nodes = Nodes(make_cluster(a=10), asked, told.append, lambda cluster: make_cluster(a=10, b=30, c=20))
    asked.ready = False
    follow(nodes, clock)
    assert set(nodes.cluster.cpus) == {"a"}  # none that has not answered
    asked.ready = True
    follow(nodes, clock)
    assert set(nodes.cluster.cpus) == {"a", "b"}
    assert nodes.largest == 30
    assert nodes.refused == {"c"}
    assert sorted(told) == [
        "10.0.0.b has joined",
        "10.0.0.c has joined, but has edgevit 0.0.9, and this one is 0.1.0",
    ]
    follow(nodes, clock, 3)
    assert sorted(asked.once) == ["b", "c"]  # once each


def test_nodes_that_leave_are_not_counted_on(clock):
    told: list[str] = []
    seen = [make_cluster(a=10)]
    nodes = Nodes(make_cluster(a=10, b=30), Asked(), told.append, lambda cluster: seen[0])
    assert nodes.have_room([30, 10])
    follow(nodes, clock)
    assert nodes.count == 1
    assert not nodes.have_room([30])
    assert told == ["10.0.0.b is gone; what ran there is begun again elsewhere"]
    seen[0] = make_cluster(a=10, b=30)
    follow(nodes, clock)
    assert nodes.count == 2  # back under the same name


@pytest.mark.parametrize(("seen", "why"), [(None, "its head does not answer"), (Cluster({}), "no node is left")])
def test_nodes_waits_for_a_cluster_that_is_silent_and_then_says_so(clock, seen, why):
    nodes = Nodes(make_cluster(a=10), Asked(), lambda text: None, lambda cluster: seen)
    follow(nodes, clock, 6)
    with pytest.raises(DeviceError, match=f"{why}.*"):
        follow(nodes, clock, 2)


def test_nodes_of_this_machine_do_not_come_back(clock):
    own = Cluster({"a": 2}, local=True)
    nodes = Nodes(own, Asked(), print, lambda cluster: None)
    with pytest.raises(DeviceError, match="its head does not answer"):
        follow(nodes, clock)


def test_have_room_gives_each_its_own_node():
    nodes = Nodes(make_cluster(a=10, b=30, c=20), Asked(), print)
    assert nodes.have_room([])
    assert nodes.have_room([10, 30, 20])
    assert not nodes.have_room([25, 25])  # one node has so much
    assert not nodes.have_room([1, 1, 1, 1])
