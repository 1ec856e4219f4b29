import numpy as np
import pytest
from scipy.linalg import sqrtm

from tests.helpers import golden
from tests.utils.metrics import naive
from utils.metrics.frechet import (
    constant_features,
    diversity,
    fit_gaussian,
    frechet_distance,
    gaussian_distance,
    normalise,
)


@pytest.mark.parametrize("kind", ["kinetic", "manual"])
def test_published_distances(kind):
    data = golden("metrics_fid.npz")
    real, own = data[f"gt_{kind}"], data[f"pred_{kind}"]
    a, b = normalise(own, real), normalise(real, real)
    np.testing.assert_allclose(a, data[f"{kind}_norm_pred"], rtol=1e-6, atol=1e-6)
    assert frechet_distance(a, b) == pytest.approx(data[f"{kind}_fid"], rel=1e-6)
    assert frechet_distance(a, b) == pytest.approx(data[f"{kind}_fid_eig"], rel=1e-6)
    assert frechet_distance(own, real) == pytest.approx(data[f"{kind}_fid_unnormalised"], rel=1e-6)
    assert diversity(a) == pytest.approx(data[f"{kind}_div_pred"], rel=2e-6)  # stored as summed in 32 bits
    assert diversity(b) == pytest.approx(data[f"{kind}_div_gt"], rel=2e-6)
    assert diversity(b) == pytest.approx(data[f"{kind}_div_gt"], rel=2e-6)


def exact_sample(rng, mean, root, num):
    """A sample whose mean and covariance (n - 1) are exactly these."""
    x = rng.normal(size=(num, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(x.T))).T)
    return mean + x @ root


def test_known_gaussians():
    rng = np.random.default_rng(0)
    dims = 7
    mean = rng.normal(size=(2, dims))
    spread = rng.uniform(0.5, 3.0, (2, dims))
    turn = np.linalg.qr(rng.normal(size=(dims, dims)))[0]  # covariances that commute: closed form
    a, b = (exact_sample(rng, m, np.diag(s) @ turn, 40) for m, s in zip(mean, spread, strict=True))
    expected = np.sum((mean[0] - mean[1]) ** 2) + np.sum((spread[0] - spread[1]) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    one, two = exact_sample(rng, [1.0], np.array([[2.0]]), 9), exact_sample(rng, [4.0], np.array([[3.0]]), 9)
    assert frechet_distance(one, two) == pytest.approx(9 + 1, rel=1e-12)


@pytest.mark.parametrize(
    ("num", "other", "dims"), [(10, 300, 32), (40, 300, 72), (2, 50, 8), (5, 4, 20), (200, 300, 6)]
)
def test_three_ways_of_the_trace_agree(num, other, dims):
    """Also with fewer dances than dimensions, where the covariances have no inverse."""
    rng = np.random.default_rng(num)
    mix = rng.normal(size=(dims, dims))
    a, b = rng.normal(size=(num, dims)) @ mix, rng.normal(size=(other, dims)) @ mix * 1.3 + 0.4
    own = frechet_distance(a, b)
    s_a, s_b = np.cov(a.T), np.cov(b.T)
    rest = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s_a) + np.trace(s_b)
    eigenvalues = np.linalg.eigvals(s_a @ s_b)
    by_eigenvalues = rest - 2 * np.sqrt(np.maximum(eigenvalues.real, 0)).sum()
    values, vectors = np.linalg.eigh(s_b)
    half = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    by_symmetry = rest - 2 * np.sqrt(np.maximum(np.linalg.eigvalsh(half @ s_a @ half), 0)).sum()
    assert own == pytest.approx(by_eigenvalues, rel=1e-5)
    assert own == pytest.approx(by_symmetry, rel=1e-5)
    if num > dims and other > dims:  # where scipy's square root is reliable
        assert own == pytest.approx(rest - 2 * np.trace(sqrtm(s_a @ s_b)).real, rel=1e-9)


def test_a_set_has_no_distance_to_itself():
    x = np.random.default_rng(1).normal(size=(30, 50))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(x, x + 1) == pytest.approx(50, rel=1e-12)
    assert gaussian_distance(fit_gaussian(x), fit_gaussian(x[::-1])) >= 0


def test_diversity_is_the_double_loop():
    x = np.random.default_rng(2).normal(size=(15, 4))
    assert diversity(x) == pytest.approx(naive.diversity(x), rel=1e-12)
    assert diversity(np.ones((3, 2))) == 0


def test_constant_features_are_found_and_blown_up():
    x = np.random.default_rng(3).normal(size=(20, 3))
    x[:, 1] = 0.25
    assert constant_features(x).tolist() == [1]
    assert np.abs(normalise(x + 0.1, x)[:, 1]).min() > 1e8
    np.testing.assert_array_equal(normalise(x, x)[:, 1], 0)


def test_bad_features():
    good = np.ones((3, 2))
    with pytest.raises(ValueError, match="n >= 2 dances, got shape"):
        frechet_distance(good[:1], good)
    with pytest.raises(ValueError, match="n >= 2 dances, got shape"):
        diversity(good[:1])
    with pytest.raises(ValueError, match="same number of features, got 2 and 3"):
        frechet_distance(good, np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"reference \(3, 3\)"):
        normalise(good, np.ones((3, 3)))
    bad = good.copy()
    bad[2, 1] = np.inf
    with pytest.raises(ValueError, match="inf in row 2, column 1"):
        frechet_distance(good, bad)
