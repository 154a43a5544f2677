"""Rows of a store: conversion from and to samples, and their digest."""

import numpy as np
import pytest
from support.data.stores import full_sample, same

from g2dbench.data.store.row import pack, unpack
from g2dbench.sample import Sample

pytestmark = pytest.mark.integration


def test_a_row_gives_its_sample_back() -> None:
    bare = Sample(id="b", image=np.zeros((2, 3), np.uint8), patient="p")
    empty = Sample(
        id="c", image=np.ones((2, 3), np.uint8), patient="p", boxes=(), masks={}, labels={}
    )
    for sample in (full_sample(), bare, empty):
        row = pack(sample)
        image = np.frombuffer(row["pixels"], np.uint8).reshape(sample.image.shape)
        assert same(unpack(row, image), sample)


def test_every_field_changes_a_rows_digest() -> None:
    from dataclasses import replace

    sample = full_sample()
    other_image = sample.image.copy()
    other_image[0, 0] ^= 1
    changes = [
        {"image": other_image}, {"patient": "q"}, {"study": None}, {"view": "AP"}, {"sex": "M"},
        {"age": 41.0}, {"split": "test"}, {"report": ""}, {"labels": None}, {"boxes": ()},
        {"masks": {}}, {"image": sample.image.reshape(7, 9), "masks": {}},
    ]  # fmt: skip
    marks = {pack(replace(sample, **change))["digest"] for change in changes}
    assert len(marks | {pack(sample)["digest"]}) == len(changes) + 1
