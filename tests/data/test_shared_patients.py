"""Patients of a test set that pre-training has seen."""

from types import SimpleNamespace
from typing import Any

import pandas as pd

from g2dbench.data.shared_patients import shared_test_patients


def store(name: str, train: str, test: str) -> Any:
    table = pd.DataFrame({
        "patient": [*train, *test, None],
        "split": ["train"] * len(train) + ["test"] * (len(test) + 1),
    })  # fmt: skip
    return SimpleNamespace(card=SimpleNamespace(name=name), table=table)


def test_all_patients_of_another_data_set_count() -> None:
    assert shared_test_patients(store("a", "pq", "rs"), store("b", "p", "qqrx")) == (2, 3)


def test_the_test_patients_of_the_same_data_set_do_not_count() -> None:
    assert shared_test_patients(store("a", "pq", "rs"), store("a", "p", "qrx")) == (1, 3)
