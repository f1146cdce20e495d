"""Keys of the output's own, beside the source's in one environment.

A pod gets the source's Secret as it is, and the output's with every name prefixed (docs/contracts.md); while an output
is written, the second ones take the place of the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

PREFIX = "TRANSCRIPTION_OUTPUT_"

# One set of keys: half of the source's with half of the output's would fit no store.
_ONE_SET = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
}


@contextmanager
def of_output() -> Iterator[None]:
    """The environment as the output's keys want it, if it has keys of its own."""
    own = {name.removeprefix(PREFIX): value for name, value in os.environ.items() if name.startswith(PREFIX)}
    replaced = _ONE_SET | own.keys() if own else set()
    before = {name: os.environ[name] for name in replaced if name in os.environ}
    for name in replaced:
        os.environ.pop(name, None)
    os.environ.update(own)
    try:
        yield
    finally:
        for name in replaced:
            os.environ.pop(name, None)
        os.environ.update(before)
