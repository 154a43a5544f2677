"""Makes the figure of docs/synthetic.md: `python benchmarks/contact_sheet.py radiographs.jpg`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from g2dbench.data.synthetic.synthetic import generate

COLUMNS, ROWS, SIZE = 6, 3, 192
OUTLINE = (255, 96, 64)


def outlined_radiograph(index: int) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8: a synthetic radiograph with the outlines of its findings."""
    sample = generate(index, SIZE)
    image = np.repeat(sample.image[..., None], 3, axis=2)
    for mask in (sample.masks or {}).values():
        image[mask & ~ndimage.binary_erosion(mask)] = OUTLINE
    return image


def main(path: Path) -> None:
    rows = [
        np.hstack([outlined_radiograph(row * COLUMNS + column) for column in range(COLUMNS)])
        for row in range(ROWS)
    ]
    Image.fromarray(np.vstack(rows)).save(path, quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
