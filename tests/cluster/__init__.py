"""A real Kubernetes on this machine, for tests and the demo."""

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.lifecycle import control_plane, down, find, up

__all__ = ["Cluster", "ClusterError", "control_plane", "down", "find", "up"]
