"""What every level may use: a real control plane or node, weights, recordings, servers."""

pytest_plugins = ("tests.cluster.fixtures", "tests.materials.fixtures")
