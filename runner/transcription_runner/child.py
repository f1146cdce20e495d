"""A process of this package that works for this one, with a pipe between them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from multiprocessing.connection import Connection, Pipe
from typing import Any


class Child:
    """Runs a module, which is given the number of its end of the pipe; it ends when nobody is at the other."""

    def __init__(self, module: str) -> None:
        """Start it."""
        self.connection: Connection[Any, Any]
        self.connection, theirs = Pipe()
        command = [sys.executable, "-m", module, str(theirs.fileno())]
        # An import path that this process was given is that one's as well.
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environ)
        theirs.close()

    def wait(self) -> int:
        """Its exit status, once it has one."""
        return self.process.wait()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self.connection.close()
        self.process.terminate()
        self.process.wait()
