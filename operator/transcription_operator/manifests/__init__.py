"""Builders of manifests: pure functions from settings and a spec to plain dictionaries."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]
