"""Patients of pre-training data that are also in a test set, by their names in prepared stores."""

from g2dbench.data.store.store import Store


def shared_test_patients(pretraining: Store, tested: Store) -> tuple[int, int]:
    """Number of test patients of `tested` that are in `pretraining`, and of all test patients.

    Patients of the training and validation splits of the same data set are not in its test split;
    of another data set all patients count, because its pre-training may have used them all. Equal
    names in unrelated data sets are a coincidence: `g2dbench data overlap` compares the images.
    """
    table = tested.table
    test = set(table.loc[table["split"] == "test", "patient"].dropna())
    before = pretraining.table
    if pretraining.card.name == tested.card.name:
        before = before[before["split"] != "test"]
    return len(test & set(before["patient"])), len(test)
