"""Division that says what an empty denominator means."""

import numpy as np
from numpy.typing import NDArray


def ratio(top: NDArray, bottom: NDArray, otherwise: float = np.nan) -> NDArray[np.float64]:
    """top / bottom element by element, `otherwise` where bottom is 0; shapes broadcast."""
    over, under = np.broadcast_arrays(top, bottom)
    result = np.full(over.shape, otherwise, dtype=np.float64)
    np.divide(over, under, out=result, where=under != 0)
    return result
