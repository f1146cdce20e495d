"""The CRDs' own hygiene, which no API server checks: a description everywhere, a limit everywhere, lists of a kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.unit.chart.conftest import ROOT
from transcription_operator.models import SHORT_NAMES
from transcription_runner.languages import LANGUAGES, to_code

Schema = dict[str, Any]
CRDS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))}


def walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}.*")


def nodes(part: str = "") -> list[tuple[str, Schema]]:
    """Every schema of every CRD whose path begins with `part`; what metadata says is the API server's."""
    return [
        (f"{name}{path or '.'}", schema)
        for name, crd in CRDS.items()
        for version in crd["spec"]["versions"]
        for path, schema in walk(version["schema"]["openAPIV3Schema"], "")
        if path.startswith(part) and path != ".metadata"
    ]


def test_a_description_everywhere():
    assert len(nodes()) > 200
    assert [path for path, schema in nodes() if len(schema.get("description", "")) < 9] == []


def limited(schema: Schema) -> bool:
    match schema.get("type"):
        case "string":
            return "maxLength" in schema or "enum" in schema
        case "array":
            return "maxItems" in schema
        case "object":
            return "additionalProperties" not in schema or "maxProperties" in schema
        case "integer":
            return "format" in schema
    return True


def test_a_limit_everywhere():
    """Rules need it: the API server counts their worst case from these."""
    assert [path for path, schema in nodes(".spec") if not limited(schema)] == []


def test_every_list_says_how_it_merges():
    lists = {path: schema for path, schema in nodes() if schema.get("type") == "array"}
    assert [p for p, s in lists.items() if s.get("x-kubernetes-list-type") not in ("map", "set", "atomic")] == []


def test_rules_say_what_to_do():
    messages = {rule["message"] for _, schema in nodes() for rule in schema.get("x-kubernetes-validations", [])}
    assert len(messages) > 60
    assert [m for m in messages if not 20 < len(m) < 300 or "\n" in m or m.endswith(".")] == []


@pytest.mark.parametrize("crd", CRDS.values(), ids=list(CRDS))
def test_the_resource_itself(crd):
    assert crd["metadata"]["name"] == f"{crd['spec']['names']['plural']}.{crd['spec']['group']}"
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert crd["spec"]["names"]["categories"] == ["transcription"]
    (version,) = crd["spec"]["versions"]
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"][-1]["description"]


def quoted(rule: str) -> set[str]:
    return set(re.findall(r"'([a-z ]+)'", rule))


def spec_properties() -> Schema:
    (version,) = CRDS["transcriptionjobs"]["spec"]["versions"]
    properties: Schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return properties


def test_the_languages_are_the_runners():
    language = quoted(spec_properties()["language"]["x-kubernetes-validations"][0]["rule"])
    codes = quoted(spec_properties()["languages"]["items"]["x-kubernetes-validations"][0]["rule"])
    assert codes == set(LANGUAGES)
    assert language - codes - {"auto"} >= set(LANGUAGES.values())
    assert [name for name in language - {"auto"} if to_code(name) is None] == []


def test_the_short_names_are_the_operators():
    rule = spec_properties()["model"]["x-kubernetes-validations"][0]["rule"]
    listed = rule[rule.index("[0] in [") + len("[0] in [") :]
    assert set(re.findall(r"'([^']+)'", listed)) == set(SHORT_NAMES)
