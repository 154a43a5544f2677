"""Division with a defined result for a zero denominator."""

import numpy as np
from numpy.typing import NDArray


def ratio(
    numerator: NDArray, denominator: NDArray, zero_division: float = np.nan
) -> NDArray[np.float64]:
    """numerator / denominator, `zero_division` where the denominator is 0; shapes broadcast."""
    over, under = np.broadcast_arrays(numerator, denominator)
    result = np.full(over.shape, zero_division, dtype=np.float64)
    np.divide(over, under, out=result, where=under != 0)
    return result
