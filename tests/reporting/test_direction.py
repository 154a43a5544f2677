"""Every metric that a task reports has the direction that its definition states."""

import pytest

from g2dbench.reporting.direction import arrow, improvement, lower_is_better


@pytest.mark.parametrize(
    "name",
    [
        "hd95", "assd", "ece", "brier", "median_rank", "hd95:nodule", "brier@male",
        "strict_median_rank", "image_to_text_median_rank", "text_to_image_strict_median_rank",
        "ece_crossfit", "brier_temperature", "brier_crossfit:edema", "relative_drop",
        "relative_drop@noise", "auc_gap", "hd95_lowest", "hd95_small", "mean_absolute_error",
    ],
)  # fmt: skip
def test_lower_is_better_in_every_form_of_the_name(name: str) -> None:
    assert lower_is_better(name)
    assert arrow(name) == "↓"
    assert improvement(name, 3.0, 1.0) == 2.0


@pytest.mark.parametrize(
    "name",
    [
        "auc", "dice", "map", "map_coco", "r1", "mrr", "f1", "mcc", "froc", "specificity",
        "auc_lowest", "dice_small", "image_to_text_r5", "cnr", "piece", "auc:brier",
        "auc@hd95", "strict_mrr", "terror",
    ],
)  # fmt: skip
def test_higher_is_better_for_all_others(name: str) -> None:
    assert not lower_is_better(name)
    assert arrow(name) == "↑"
    assert improvement(name, 3.0, 1.0) == -2.0
