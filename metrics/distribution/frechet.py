"""Streaming Gaussian statistics of a set of features, and the Fréchet distance between two of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from metrics.files import load_npz, replacing

LARGEST = np.float64(1e50)  # of features: no float32 is larger, and cubes of their products still have a float64


@dataclass(frozen=True)
class Gaussian:
    """Count, mean and scatter of a set of features, in float64; adding sets in any order and cut gives the same.

    Sets are merged by the pairwise update of Chan, Golub and LeVeque (1979), which subtracts no large numbers from each
    other: features far from zero lose no digits.
    """

    n: int
    mean: Float64[np.ndarray, " F"]
    scatter: Float64[np.ndarray, "F F"]  # sum over the set of (x - mean)(x - mean)^T

    @classmethod
    def of(cls, features: Float[np.ndarray, "N F"]) -> "Gaussian":
        """The statistics of one set or batch.

        Raises:
            ValueError: no features, or some that are not finite.
        """
        check_rows(features)
        wide = features.astype(np.float64)
        mean = wide.mean(axis=0)
        wide -= mean
        return cls(len(features), mean, wide.T @ wide)

    def merge(self, other: "Gaussian") -> "Gaussian":
        """The statistics of both sets together.

        Raises:
            ValueError: sets of different numbers of features.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"sets of {len(self.mean)} and of {len(other.mean)} features do not merge: use one network"
            )
        n = self.n + other.n
        step = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(step, step) * (self.n * other.n / n)
        return Gaussian(n, self.mean + step * (other.n / n), scatter)

    def add(self, features: Float[np.ndarray, "N F"]) -> "Gaussian":
        """The statistics of this set and one more batch."""
        return self.merge(Gaussian.of(features))

    def covariance(self, ddof: int = 1) -> Float64[np.ndarray, "F F"]:
        """The scatter divided by n - ddof."""
        return self.scatter / (self.n - ddof)

    def save(self, path: Path | str) -> None:
        """Write an .npz; the file appears whole or not at all."""
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, n=self.n, mean=self.mean, scatter=self.scatter)

    @classmethod
    def load(cls, path: Path | str) -> "Gaussian":
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            ValueError: the file is missing, truncated or holds something else.
        """
        return cls.of_arrays(read_statistics(path), path)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray], path: Path | str) -> "Gaussian":
        """What the arrays of the file `path` mean.

        Raises:
            ValueError: they mean something else.
        """
        try:
            n, mean, scatter = int(arrays["n"]), arrays["mean"], arrays["scatter"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a whole file of statistics: {error}; save them again") from error
        if n < 1 or mean.ndim != 1 or scatter.shape != (len(mean), len(mean)):
            raise ValueError(
                f"{path} is not a whole file of statistics: n {n}, mean {mean.shape}, scatter {scatter.shape}"
            )
        return cls(n, mean.astype(np.float64), scatter.astype(np.float64))


def read_statistics(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a file of statistics, read once.

    Raises:
        ValueError: the file is missing, truncated or too large.
    """
    try:
        return load_npz(path)
    except ValueError as error:
        raise ValueError(f"{path} is not a whole file of statistics: {error}; save them again") from error


@dataclass(frozen=True)
class GaussianFactor:
    """A Gaussian by its mean and a root of its covariance: `root @ root.T` is the covariance, of rank R at most."""

    n: int
    mean: Float64[np.ndarray, " F"]
    root: Float64[np.ndarray, "F R"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "N F"], *, ddof: int = 1) -> "GaussianFactor":
        """The cheaper root: the centered rows where they are fewer than the features, else that of `of_gaussian`.

        Either way the covariance is the same. Rows are exact and, when few, cheap: nothing of the size F x F is made.

        Raises:
            ValueError: as `Gaussian.of`; or fewer than 2 rows.
        """
        if len(features) > features.shape[1]:
            return cls.of_gaussian(Gaussian.of(features), ddof=ddof)
        check_rows(features)
        _check_count(len(features))
        wide = features.astype(np.float64)
        mean = wide.mean(axis=0)
        return cls(len(wide), mean, (wide - mean).T / np.sqrt(len(wide) - ddof))

    @classmethod
    def of_gaussian(cls, gaussian: Gaussian, *, ddof: int = 1) -> "GaussianFactor":
        """By the eigenvectors; n samples span n - 1 directions at most; what rounding adds in the others is dropped.

        Raises:
            ValueError: fewer than 2 samples, or statistics that are not finite.
        """
        _check_count(gaussian.n)
        if not (np.isfinite(gaussian.mean).all() and np.isfinite(gaussian.scatter).all()):
            raise ValueError("statistics must be finite, these are not: look at the videos they were made of")
        values, vectors = np.linalg.eigh(gaussian.covariance(ddof))
        rank = min(len(values), gaussian.n - 1)
        return cls(gaussian.n, gaussian.mean, vectors[:, -rank:] * np.sqrt(np.clip(values[-rank:], 0, None)))


def frechet_distance(a: Gaussian | GaussianFactor, b: Gaussian | GaussianFactor, *, ddof: int = 1) -> float:
    """Fréchet (2-Wasserstein, squared) distance between two Gaussians: 0 for equal ones, lower is nearer.

        |mean_a - mean_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2))

    The last trace is the nuclear norm (sum of singular values) of P^T Q for any roots P P^T = A and Q Q^T = B: sets
    smaller than their features yield no complex numbers and no failed roots, and no square of a small number is rooted.
    Rounding may leave equal sets at some 1e-12 of their variance; a result below 0 is returned as 0.

    Args:
        a, b: the two sets' statistics, or their factors, which save work where one set is compared with many.
        ddof: the covariances of statistics are divided by n - ddof: 1 as the reference, 0 as some published code.

    Raises:
        ValueError: a set of fewer than 2, statistics that are not finite, or sets of different numbers of features.

    Source: Dowson and Landau 1982; Unterthiner et al. 2018, arXiv:1812.01717.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"sets of {len(a.mean)} and of {len(b.mean)} features have no distance: use one network")
    if min(a.n, b.n) < 2:
        raise ValueError(f"a Fréchet distance needs at least 2 samples in each set: got {a.n} and {b.n}")
    p, q = (x if isinstance(x, GaussianFactor) else GaussianFactor.of_gaussian(x, ddof=ddof) for x in (a, b))
    shared = np.linalg.svd(p.root.T @ q.root, compute_uv=False).sum()
    distance = ((p.mean - q.mean) ** 2).sum() + (p.root**2).sum() + (q.root**2).sum() - 2 * shared
    return max(float(distance), 0.0)


def check_rows(features: Float[np.ndarray, "N F"]) -> None:
    """Raise ValueError unless there are rows of features, finite and small enough for sums of their sixth powers."""
    if len(features) == 0:
        raise ValueError("statistics need at least one row of features: got none")
    if bad := int((~(np.abs(features) < LARGEST)).any(axis=1).sum()):
        raise ValueError(
            f"features must be finite and below {LARGEST:g}, {bad} of {len(features)} rows are not: look at those "
            "videos"
        )


def _check_count(n: int) -> None:
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 samples: got {n}")


def leave_one_out(parts: Sequence[Gaussian]) -> list[Gaussian]:
    """For each of at least two parts, the statistics of all the others together."""
    before = list(accumulate(parts, Gaussian.merge))
    after = list(accumulate(reversed(parts), Gaussian.merge))[::-1]
    middle = [before[i - 1].merge(after[i + 1]) for i in range(1, len(parts) - 1)]
    return [after[1], *middle, before[-2]]
