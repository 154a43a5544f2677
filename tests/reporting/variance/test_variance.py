"""`g2dbench variance`: sources of a score's variance, from results alone."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit
from support.reporting.results import result
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.reporting.variance.sources import (
    HEAD,
    PRETRAINING,
    REST,
    SUBSET,
    TEST,
    ScoreVariance,
    score_variances,
    standard_error,
)
from g2dbench.result import Result, Score, save


def runs(
    deviations: tuple[float, float, float], size: int = 4, error: float = 0.02
) -> list[Result]:
    """Crossed subset, head and pre-training seeds, whose effects have these deviations."""
    rng = np.random.default_rng(0)
    subset, head, pre = (rng.normal(0, sd, size) for sd in deviations)
    found = []
    for s in range(size):
        for h in range(size):
            for p in range(size):
                value = 0.6 + subset[s] + head[h] + pre[p]
                reach = 1.959964 * error / (value * (1 - value))
                low, high = expit(logit(value) - reach), expit(logit(value) + reach)
                score = Score(value=value, low=low, high=high, n=99)
                found.append(
                    result(subset_seed=s, seed=h, model_seed=p, scores={"dice": score},
                           weights=f"w{p}")
                )  # fmt: skip
    return found


def only(results: list[Result]) -> ScoreVariance:
    (found,) = score_variances(results)
    return found


def test_each_source_has_the_variance_of_its_effects() -> None:
    rng = np.random.default_rng(0)
    wanted = [rng.normal(0, sd, 4).var(ddof=1) for sd in (0.03, 0.01, 0.02)]
    found = only(runs((0.03, 0.01, 0.02)))
    by_name = {each.name: each for each in found.sources}
    assert list(by_name) == [SUBSET, HEAD, PRETRAINING, REST, TEST]
    for name, variance in zip((SUBSET, HEAD, PRETRAINING), wanted, strict=True):
        assert by_name[name].variance == pytest.approx(variance)
        assert by_name[name].levels == 4
    assert by_name[REST].variance == pytest.approx(0, abs=1e-12)
    assert by_name[TEST].deviation == pytest.approx(0.02)
    assert sum(found.share(each) for each in found.sources) == pytest.approx(1)


def test_the_error_of_an_interval_on_each_scale() -> None:
    value, error = 0.9, 0.02
    reach = 1.959964 * error
    unit = [expit(logit(value) + sign * reach / (value * (1 - value))) for sign in (-1, 1)]
    assert standard_error("auc", Score(value=value, low=unit[0], high=unit[1])) == pytest.approx(
        error, rel=1e-4
    )
    real = Score(value=12.0, low=12 - reach, high=12 + reach)
    assert standard_error("hd95", real) == pytest.approx(error, rel=1e-4)
    z = [np.tanh(np.arctanh(0.5) + sign * reach / 0.75) for sign in (-1, 1)]
    assert standard_error("mcc", Score(value=0.5, low=z[0], high=z[1])) == pytest.approx(
        error, rel=1e-4
    )
    assert math.isnan(standard_error("auc", Score(value=1.0, low=0.8, high=1.0)))
    assert math.isnan(standard_error("auc", Score(value=0.5)))


def test_what_the_runs_do_not_determine_is_said() -> None:
    together = [result(0.5 + s / 50, seed=s, model_seed=s) for s in range(3)]
    notes = " ".join(only(together).notes)
    assert "only one seed, so nothing is known of: subset draw" in notes
    assert "initialization + pre-training: the seeds change together" in notes
    assert "fewer than 5 seeds, a rough estimate" in notes
    alone = only([result(0.5, scores={"dice": Score(value=0.5)})])
    assert not alone.sources
    assert "no run has an interval" in alone.notes[-1]


def test_failed_and_undefined_runs_do_not_count() -> None:
    results = [*runs((0.03, 0.01, 0.02)), result(status="failed", scores={}, seed=9),
               result(math.nan, seed=8)]  # fmt: skip
    assert only(results).runs == 64
    assert score_variances([result(status="failed", scores={})]) == []


@pytest.mark.parametrize("form", ["rich", "md", "csv", "json"])
def test_the_command_prints_every_source(tmp_path: Path, form: str) -> None:
    for at, each in enumerate(runs((0.03, 0.01, 0.02), size=2)):
        save(each, tmp_path / str(at))
    out = CliRunner().invoke(app, ["variance", str(tmp_path), "--format", form])
    assert out.exit_code == 0, out.output
    for name in (SUBSET, HEAD, PRETRAINING, REST, TEST):
        assert name in out.stdout
    assert max(map(len, out.stdout.splitlines())) <= 80 or form != "rich"
    if form == "csv":
        assert len(list(csv.DictReader(io.StringIO(out.stdout)))) == 5
    if form == "json":
        assert sum(row["share"] for row in json.loads(out.stdout)["rows"]) == pytest.approx(1)


def test_a_metric_that_no_result_has_is_refused(tmp_path: Path) -> None:
    save(result(0.5), tmp_path / "a")
    out = CliRunner().invoke(app, ["variance", str(tmp_path), "--metric", "nothing"])
    assert out.exit_code == 1
    assert "nothing" in out.output
