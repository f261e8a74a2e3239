"""A Ray cluster of several nodes on this machine."""

from typing import Any


class Nodes:
    """A cluster on this machine, one process group a node."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        # A node that does not answer is dead after some 10 s, and not after a minute.
        checks = {"health_check_period_ms": 1000, "health_check_timeout_ms": 3000, "health_check_failure_threshold": 3}
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": checks}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)

    def add(self, **variables: str) -> Any:
        return self.cluster.add_node(num_cpus=1, env_vars=variables)

    def raylet(self, node: Any) -> int:
        from ray._private.ray_constants import PROCESS_TYPE_RAYLET

        return int(node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid)
