"""A Ray cluster of several nodes on this machine."""

from __future__ import annotations

from typing import Any

__all__ = ["started"]

_TRIES = 5


def started(*cpus: int) -> tuple[Any, Any]:
    """Start a cluster; return it and its last node.

    Ray gives a node half a minute to start, which is little on a machine that is busy.

    Args:
        *cpus: CPUs of each node; the first is the head.
    """
    from ray.cluster_utils import Cluster

    for left in reversed(range(_TRIES)):
        cluster = Cluster()
        try:
            nodes = [cluster.add_node(num_cpus=number) for number in cpus]
            return cluster, nodes[-1]
        except Exception as error:
            cluster.shutdown()
            if not left or "timed out during startup" not in str(error):
                raise
    raise AssertionError
