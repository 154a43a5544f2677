"""Variance components by the method of moments, for crossed, nested, unbalanced and missing runs.

Legend: R runs, F factors (kinds of seeds), L levels of a factor.

Model: value = mean + one random effect of each factor + rest, all independent. Each factor's sum of
squares, after the other factors are fitted, is set equal to its expectation, which is linear in the
variances; so is the residual's. In a balanced design these are the mean squares of the analysis of
variance. Factors that are nested in a factor are not fitted before it, since nothing would remain.

Source: Henderson 1953, method 3 (fitting constants); Searle, Casella & McCulloch 1992, 5.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]

_REST = ""


@dataclass(frozen=True)
class VarianceComponents:
    """Variances of the factors and of the rest.

    variances: by factor; factors that change together are one, "a + b". levels: of each of them.
    residual: variance of what no factor explains; NaN if no run is left to estimate it, and then
    it is contained in the factors. negative: factors whose estimate was below 0 and is shown as 0.
    inseparable: factors whose variance these runs do not determine. fixed: factors with one level.
    """

    variances: dict[str, float]
    levels: dict[str, int]
    residual: float
    residual_degrees: int
    negative: tuple[str, ...]
    inseparable: tuple[str, ...]
    fixed: tuple[str, ...]


def variance_components(
    values: ArrayLike, factors: Mapping[str, Sequence[Hashable]]
) -> VarianceComponents:
    """Estimate the variances from the values (R,) of runs and the level of each run by factor.

    Raises ValueError for values that are not finite, or that do not fit the levels.
    """
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 1 or not np.isfinite(y).all() or any(len(f) != y.size for f in factors.values()):
        raise ValueError("variance components need one finite value and one level for each run")
    merged, fixed = _merged(factors)
    designs = {name: _indicators(codes) for name, codes in merged.items()}
    expected, found, inseparable = _equations(y, designs)
    names = [name for name in designs if name not in inseparable]
    degrees = round(found[-1][1])
    # Without residual degrees the rest cannot be told from the factors: it counts as theirs.
    unknown = [*names, _REST] if degrees else names
    at = [[*designs, _REST].index(name) for name in unknown]
    estimates: dict[str, float] = {}
    if unknown:
        system = np.array([expected[row] for row in at])[:, at]
        solved = np.linalg.lstsq(system, np.array([found[row][0] for row in at]))[0]
        estimates = dict(zip(unknown, map(float, solved), strict=True))
    scale = 1e-12 * max(float(y.var()), np.finfo(float).tiny)
    return VarianceComponents(
        variances={name: max(estimates[name], 0.0) for name in names},
        levels={name: designs[name].shape[1] for name in names},
        residual=max(estimates[_REST], 0.0) if degrees else float("nan"),
        residual_degrees=degrees,
        negative=tuple(name for name in names if estimates[name] < -scale),
        inseparable=tuple(inseparable),
        fixed=fixed,
    )


def _merged(
    factors: Mapping[str, Sequence[Hashable]],
) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Level numbers of factors with several levels, equal ones joined; names of the others."""
    names: dict[tuple[int, ...], list[str]] = {}
    fixed = []
    for name, levels in factors.items():
        codes = tuple(pd.factorize(pd.Series(list(levels), dtype=object))[0].tolist())
        if len(set(codes)) > 1:
            names.setdefault(codes, []).append(name)
        else:
            fixed.append(name)
    return {" + ".join(each): codes for codes, each in names.items()}, tuple(fixed)


def _indicators(codes: Sequence[int]) -> Matrix:
    """(R, L): which run has which level."""
    return np.asarray(np.eye(max(codes) + 1)[list(codes)])


def _equations(
    y: NDArray[np.float64], designs: Mapping[str, Matrix]
) -> tuple[list[NDArray[np.float64]], list[tuple[float, float]], list[str]]:
    """Per factor and for the residual: coefficients of (F variances, rest); (sum, degrees).

    The last list has the factors without degrees of freedom of their own.
    """
    ones = np.ones((y.size, 1))
    whole = _projection([ones, *designs.values()])
    expected, found, inseparable = [], [], []
    for name, own in designs.items():
        nested = {n for n, z in designs.items() if n != name and _is_within(own, z)}
        before = [z for n, z in designs.items() if n != name and n not in nested]
        quadratic = _projection([ones, *before, own]) - _projection([ones, *before])
        degrees = float(np.trace(quadratic))
        if degrees < 0.5:
            inseparable.append(name)
        expected.append(_expectation(quadratic, designs))
        found.append((float(y @ quadratic @ y), degrees))
    rest = np.eye(y.size) - whole
    expected.append(_expectation(rest, designs))
    found.append((float(y @ rest @ y), round(float(np.trace(rest)))))
    return expected, found, inseparable


def _expectation(quadratic: Matrix, designs: Mapping[str, Matrix]) -> NDArray[np.float64]:
    """Coefficients of the variances in the expectation of y' Q y; the last is of the rest."""
    traces = [float(np.sum(z * (quadratic @ z))) for z in designs.values()]
    return np.array([*traces, float(np.trace(quadratic))])


def _projection(blocks: Sequence[Matrix]) -> Matrix:
    """(R, R): onto the columns of all blocks."""
    design = np.hstack(blocks)
    left, singular, _ = np.linalg.svd(design, full_matrices=False)
    basis = left[:, singular > 1e-9 * singular[0]]
    return np.asarray(basis @ basis.T)


def _is_within(outer: Matrix, inner: Matrix) -> bool:
    """Whether runs of one level of `inner` always have one level of `outer`: inner is nested."""
    return bool(((inner.T @ outer > 0).sum(axis=1) == 1).all())
