"""The paired test of the gate: is a lower score of a re-run cell more than noise?"""

from g2dbench.errors import G2DBenchError
from g2dbench.registry import Registry
from g2dbench.reporting.gate.regression_gate import PairedTest
from g2dbench.reporting.stored_results import StoredResult

_AGREEMENT = 1e-6


def paired_test(registry: Registry) -> PairedTest:
    """The paired bootstrap over patients, from the stored predictions of both cells."""

    def p_value(before: StoredResult, now: StoredResult, metric: str) -> float | None:
        if before.predictions() is None or now.predictions() is None:
            return None
        from g2dbench.reporting.paired_comparison import compare  # two seconds, if none fell

        try:
            found = compare([now.folder], [before.folder], registry, metric)
        except G2DBenchError:
            return None
        stated = now.result.scores[metric].value - before.result.scores[metric].value
        # Scores that are not those of the predictions, such as edited ones, are never noise.
        return found.p_patients if abs(found.value - stated) < _AGREEMENT else None

    return p_value
