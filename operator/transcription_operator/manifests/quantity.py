"""Quantities as Kubernetes writes them: 500m, 4Gi, 1e3."""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_FORM = re.compile(r"([+-]?\d+\.?\d*(?:[eE][+-]?\d+)?|[+-]?\.\d+)([numkKMGTPE]i?|)")


def parse(text: object) -> Decimal:
    """A quantity's value; ValueError for what is none."""
    found = _FORM.fullmatch(str(text))
    if found is None or found[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is no quantity")
    return Decimal(found[1]) * _SUFFIXES[found[2]]
