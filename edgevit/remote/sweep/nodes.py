"""Nodes: those that a sweep counts on, as they come and go."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from edgevit.core.errors import DeviceError
from edgevit.remote.sweep.admission import Admission
from edgevit.remote.sweep.cluster import Cluster, look_again

Look: TypeAlias = Callable[[Cluster], Cluster | None]
"""Gives the cluster as it is now, ``None`` where its head does not answer."""
LOOK_SECONDS = 5.0
"""Between two looks."""
SILENCE_SECONDS = 40.0
"""How long the head may not answer, or no node be there. After a minute Ray would end this process."""


class Nodes:
    """The nodes of a cluster that take part in a sweep.

    Args:
        cluster: As it is at the start; all of its nodes were asked.
        admission: Asks those that join later.
        note: Told, a sentence each, of nodes that come and go.
        look: How the cluster is seen.
    """

    def __init__(
        self, cluster: Cluster, admission: Admission, note: Callable[[str], None], look: Look = look_again
    ) -> None:
        self.cluster, self.admission, self.note, self.look = cluster, admission, note, look
        self.admitted, self.refused = set(cluster.cpus), set[str]()
        self.looked = self.answered = time.monotonic()

    @property
    def count(self) -> int:
        """How many there are."""
        return self.cluster.nodes

    @property
    def slots(self) -> int:
        """Shares of each."""
        return self.cluster.slots

    @property
    def largest(self) -> int:
        """Bytes that the largest gives to its tasks; 0 where Ray does not say."""
        return max(self.cluster.memory_bytes.values(), default=0)

    def have_room(self, needs: Sequence[int]) -> bool:
        """Whether tasks with these needs in bytes can run at the same time, each with a node to itself."""
        has = sorted((self.cluster.memory_bytes.get(node, 0) for node in self.cluster.cpus), reverse=True)
        return len(needs) <= len(has) and all(
            need <= size for need, size in zip(sorted(needs, reverse=True), has, strict=False)
        )

    def follow(self) -> bool:
        """See which are there, from time to time; whether it was time.

        Nodes that have joined are asked before they are counted on.

        Raises:
            DeviceError: The head does not answer any more, or no node is left.
        """
        now = time.monotonic()
        if now - self.looked < LOOK_SECONDS:
            return False
        self.looked = now
        found = self.look(self.cluster)
        if found is not None:
            self._admit(found)
            self._replace(found)
            if self.count:
                self.answered = now
                return True
        if self.cluster.local or now - self.answered >= SILENCE_SECONDS:
            what = "its head does not answer" if found is None else "no node is left"
            raise DeviceError(f"the Ray cluster is gone: {what}", "run the same command again: what has ended is kept")
        return True

    def _admit(self, found: Cluster) -> None:
        new = found.cpus.keys() - self.admitted - self.refused - self.admission.asked.keys()
        if new:
            self.admission.ask(new)
        for node, why in self.admission.collect().items():
            (self.refused if why else self.admitted).add(node)
            host = found.hosts.get(node, node)
            self.note(f"{host} has joined, but {why}" if why else f"{host} has joined")

    def _replace(self, found: Cluster) -> None:
        for node in self.cluster.cpus.keys() - found.cpus.keys():
            self.note(f"{self.cluster.hosts.get(node, node)} is gone; what ran there is begun again elsewhere")
        cpus = {node: count for node, count in found.cpus.items() if node in self.admitted}
        memory = {node: size for node, size in found.memory_bytes.items() if node in cpus}
        self.cluster = dataclasses.replace(found, cpus=cpus, memory_bytes=memory)
