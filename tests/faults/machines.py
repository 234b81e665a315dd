"""A Ray cluster of several nodes on one machine."""

from typing import Any

from processes import children, command, kill_and_wait


class Machines:
    """A Ray cluster on this machine: a head without CPUs, and nodes of one CPU each that may be lost."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 * 2**20},
        )
        self.nodes: list[Any] = []

    def add(self) -> None:
        """Let a node join."""
        self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20))

    def raylet(self, node: Any) -> int:
        """Process id of a node's raylet."""
        return int(node.all_processes["raylet"][0].process.pid)

    def workers(self) -> list[int]:
        """Processes that render at the moment."""
        return [pid for node in self.nodes for pid in self.workers_of(node)]

    def workers_of(self, node: Any) -> list[int]:
        """Processes of one node that render at the moment."""
        found = children(self.raylet(node))
        return [pid for pid in found if command(pid).startswith("ray::_render_with_ray")]

    def lose(self, node: Any) -> None:
        """Kill a node's raylet and all that it started, as when a machine goes away.

        Workers whose raylet is gone end by themselves, but only after a while in which they go on working.
        """
        self.nodes.remove(node)
        raylet = self.raylet(node)
        started = children(raylet)
        for pid in (raylet, *started):
            kill_and_wait(pid)
        self.cluster.remove_node(node, allow_graceful=False)
