"""Random numbers of the synthetic data: equal to those of NumPy 2.4, right distributions."""

import numpy as np
import pytest
from scipy import stats

from g2dbench.data.synthetic._random import Random, grain

ABC = list("abcdefgh")


def test_numbers_are_those_that_numpy_made_of_the_same_bits():
    """Written down from numpy.random.Generator(PCG64(SeedSequence((3, 4)))) of NumPy 2.4.6."""
    rng = Random(3, 4)
    assert [rng.uniform(), rng.uniform(2, 3)] == [0.8983874397838618, 2.4557751793377776]
    normals = [2.5156727903302447, -0.4198604988522, 0.08777190146278578, 0.8728163631236804]
    assert rng.normals(1.0, 4).tolist() == pytest.approx(normals, rel=1e-14)
    assert [rng.integer(1, 8) for _ in range(6)] == [6, 2, 6, 6, 6, 7]
    assert (rng.choice(ABC[:4]), rng.choice(ABC[:4], [0.1, 0.2, 0.3, 0.4])) == ("b", "d")
    assert rng.sample(ABC[:6], 4, [0.3, 0.3, 0.1, 0.1, 0.1, 0.1]) == ["a", "b", "f", "d"]
    assert rng.signs(7).tolist() == [1, -1, 1, 1, 1, -1, -1]
    assert rng.shuffled(ABC) == ["a", "f", "c", "d", "h", "b", "e", "g"]
    assert rng.beta(1.2, 2.4) == pytest.approx(0.49740458552382993, rel=1e-14)
    uniforms = [-0.822324043857513, -0.5827531140035016, -0.7453472360995339]
    assert rng.uniforms(-1, 1, 3).tolist() == uniforms


def test_grain_is_that_of_numpy():
    """Written down from standard_normal((2, 3), dtype=float32) of the key (5, 6)."""
    expected = [
        [0.06872790306806564, 1.725150465965271, 1.56844162940979],
        [0.6603832840919495, -0.37402477860450745, -2.298947811126709],
    ]
    np.testing.assert_allclose(grain((2, 3), 5, 6), expected, rtol=3e-7)


def test_one_by_one_or_together_the_numbers_are_the_same():
    """Of 20,000 numbers some 240 take further words, and some 5 of them lie in the tail."""
    together, apart = Random(1), Random(1)
    assert together.normals(1.0, 20000).tolist() == [apart.normal(0.0, 1.0) for _ in range(20000)]
    assert together.signs(9).tolist() == [2.0 * apart.integer(0, 2) - 1 for _ in range(9)]
    assert together.uniform() == apart.uniform()


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_short_draws_join_into_one_long_draw(count):
    long, short = Random(2), Random(2)
    joined = np.concatenate([short.normals(1.0, count) for _ in range(3000 // count)])
    np.testing.assert_array_equal(long.normals(1.0, len(joined)), joined)


def test_distributions():
    rng = Random(4)
    normals = rng.normals(1.0, 400_000)
    assert stats.kstest(normals, "norm").pvalue > 0.01
    beyond = (np.abs(normals) > 3.6541528853610088).mean()
    assert beyond == pytest.approx(2 * stats.norm.sf(3.6541528853610088), rel=0.25)
    assert stats.kstest(grain((300, 300), 9).ravel(), "norm").pvalue > 0.01
    assert stats.kstest([rng.beta(1.2, 2.4) for _ in range(5000)], "beta", (1.2, 2.4))[1] > 0.01
    faces = np.bincount([rng.integer(0, 6) for _ in range(6000)])
    assert stats.chisquare(faces).pvalue > 0.01
