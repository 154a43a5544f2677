"""Scenes that several tests of the synthetic radiographs share."""

import pytest

from g2dbench.data.synthetic._scene import Scene, draw_scene


@pytest.fixture(scope="package")
def scenes() -> list[Scene]:
    """The first 1,500 scenes of seed 0."""
    return [draw_scene(index) for index in range(1500)]
