"""What the images promise, asked of the images themselves."""

from __future__ import annotations

import pytest

from tests.cluster import images


@pytest.fixture(scope="module")
def built():
    return [f"localhost/{image}" for image in images.build().all]


def test_both_run_as_10001(built):
    for image in built:
        assert images.storage().inspect(image)["OCIv1"]["config"]["User"] == "10001:10001"


def test_the_operators_image_is_slim(built):
    operator, _ = built
    assert images.storage().size(operator) < 200_000_000


def test_a_change_of_code_ships_a_small_layer(built):
    for image in built:
        *_, code = images.storage().layers(image)
        assert code < 5_000_000


def test_the_runners_image_has_what_options_need(built):
    """The roll-back and adapters: packages that are imported only when they are asked for."""
    _, runner = built
    container = images.storage().run("from", runner).strip()
    try:
        images.storage().run("run", container, "--", "/opt/venv/bin/python", "-c", "import peft, whisper")
    finally:
        images.storage().run("rm", container)
