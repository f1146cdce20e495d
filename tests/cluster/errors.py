"""What goes wrong here, in words for the person at the terminal."""

from __future__ import annotations


class ClusterError(RuntimeError):
    """Something that the person can act on; the command line prints it without a traceback."""
