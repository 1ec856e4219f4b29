"""Fréchet distance between two sets of dances (FID), and diversity of one set (Div).

Source: Heusel et al. 2017 (the distance), as used for FID_k, FID_g, Div_k and Div_g by Bailando (CVPR 2022)
and AIST++. Conventions: features are (n, d), a dance per row; everything is computed in float64.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import svdvals
from scipy.spatial.distance import pdist

SPREAD_FLOOR = 1e-10  # added to the standard deviation, as published


class Gaussian(NamedTuple):
    """Mean (d,) and a root (r, d) of the covariance, which is root.T @ root; r is n, or d if n > 4 d."""

    mean: np.ndarray
    root: np.ndarray


def _matrix(features: np.ndarray, least: int, what: str) -> np.ndarray:
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or features.shape[0] < least or features.shape[1] < 1:
        raise ValueError(f"{what} must be (n, d) with n >= {least} dances, got shape {features.shape}")
    if not np.isfinite(features).all():
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise ValueError(
            f"{what} has {features[row, column]} in row {row}, column {column}; features must be finite"
        )
    return features


def fit_gaussian(features: np.ndarray) -> Gaussian:
    """Mean and covariance (with n - 1) of features (n >= 2, d).

    Raises:
        ValueError: if there are fewer than two rows, or a value is not finite.
    """
    features = _matrix(features, 2, "features")
    mean = features.mean(0)
    root = (features - mean) / np.sqrt(len(features) - 1)
    if len(root) > 4 * root.shape[1]:  # a square root is smaller
        values, vectors = np.linalg.eigh(root.T @ root)
        root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return Gaussian(mean, root)


def gaussian_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Fréchet (2-Wasserstein) distance |mu_a - mu_b|² + tr(S_a + S_b - 2 (S_a S_b)^½), at least 0.

    The trace of the square root is the sum of the singular values of root_a @ root_b.T. Unlike the square
    root of the product itself, that needs no inverse, is never complex, and is exact when there are fewer
    dances than dimensions.
    """
    spread = np.sum(a.root**2) + np.sum(b.root**2)
    shared = svdvals(a.root @ b.root.T).sum()
    return max(0.0, float(np.sum((a.mean - b.mean) ** 2) + spread - 2.0 * shared))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of the Gaussians fitted to features a (n, d) and b (m, d).

    Range 0 to infinity, lower is better. With few dances it is far from 0 even for two samples of the same
    distribution: compare with the finite-sample floor (`utils.metrics.controls`). Published as FID: normalise
    both by the real set first (`normalise`).

    Raises:
        ValueError: if either has fewer than two dances, the dimensions differ, or a value is not finite.
    """
    first, second = fit_gaussian(a), fit_gaussian(b)
    if len(first.mean) != len(second.mean):
        raise ValueError(
            f"both sets need the same number of features, got {len(first.mean)} and {len(second.mean)}"
        )
    return gaussian_distance(first, second)


def normalise(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Features (n, d) minus the mean of reference (m, d), over its standard deviation (ddof 0) plus 1e-10.

    Both are normalised in their own precision: published numbers have float32 statistics of float32 features.
    A feature that is constant in the reference is blown up by 1e10 (the source of FIDs above 1e9);
    `constant_features` finds those.

    Raises:
        ValueError: on wrong shapes or values that are not finite.
    """
    if _matrix(features, 0, "features").shape[1] != _matrix(reference, 1, "reference features").shape[1]:
        raise ValueError(f"features have shape {np.shape(features)}, the reference {np.shape(reference)}")
    features, reference = np.asarray(features), np.asarray(reference)
    return (features - reference.mean(0)) / (reference.std(0) + SPREAD_FLOOR)


def constant_features(reference: np.ndarray, tolerance: float = 1e-8) -> np.ndarray:
    """Indices of the columns of reference (m, d) that do not vary beyond tolerance times their mean size."""
    reference = _matrix(reference, 1, "reference features")
    return np.flatnonzero(reference.std(0) <= tolerance * np.abs(reference).mean(0))


def diversity(features: np.ndarray) -> float:
    """Mean Euclidean distance over all pairs of rows of features (n >= 2, d), normalised by the real set.

    Range 0 to infinity; good is near the real set's value, neither below nor above.

    Raises:
        ValueError: if there are fewer than two dances, or a value is not finite.
    """
    return float(pdist(_matrix(features, 2, "features")).mean())
