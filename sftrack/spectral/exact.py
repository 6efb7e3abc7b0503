"""The pixel graph as an explicit sparse matrix, and its leading eigenvector by Lanczos: the truth that the filters are checked against.

For small volumes: a row has `kt * ky * kx` entries, 125 for the usual kernel, so 480x854 pixels over ten frames would need about 6 GB.
"""

from collections.abc import Sequence
from itertools import product
from numbers import Real
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse import linalg

from sftrack.contracts import RANGE_TOLERANCE
from sftrack.spectral.checks import check_settings
from sftrack.spectral.gaussian import KernelSize, gaussian

Matrix: TypeAlias = "sparse.csr_array[np.float64]"
SYMMETRY_TOLERANCE = 1e-12
"""By how much entries may differ from those across the diagonal, beside the largest entry."""

Affinity = Literal["exponential", "first_order"]


def adjacency(
    s: ArrayLike,
    f: ArrayLike | Sequence[ArrayLike],
    *,
    p: float,
    alpha: float,
    kernel_size: KernelSize = (5, 5, 5),
    affinity: Affinity = "first_order",
) -> Matrix:
    """The symmetric matrix of the graph; node `(t, y, x)` has the index `(t * H + y) * W + x`.

    With `d_ij` the squared difference of the feature maps (their mean, where there are several), `M_ij` is `s_i^p s_j^p G_ij` times
    `exp(-alpha d_ij)` (`exponential`, Eq. 1) or `1 - alpha d_ij` (`first_order`, Eq. 2, which `power_step` multiplies by).

    Args:
        s: unary map `(T, H, W)` in [0, 1]; tensors on the CPU are accepted as well.
        f: one pairwise feature map of the same shape, in [0, 1], or several as `(K, T, H, W)`.
        p, alpha, kernel_size: see `power_step`.
        affinity: which of the two equations.

    Raises:
        ValueError: other shapes, values outside [0, 1] or not finite, unknown affinity, or settings that `power_step` refuses.
    """
    check_settings(p, alpha, kernel_size)
    if affinity not in ("exponential", "first_order"):
        raise ValueError(f"expected the affinity 'exponential' or 'first_order', got '{affinity}'")
    unary = np.asarray(s, dtype=np.float64)
    features = np.asarray(f, dtype=np.float64)
    if unary.ndim != 3 or features.shape[-3:] != unary.shape or features.ndim not in (3, 4) or not features.size:
        raise ValueError(f"expected s of shape (T, H, W) and f of that shape or (K, T, H, W), got {unary.shape} and {features.shape}")
    for name, values in (("s", unary), ("f", features)):
        if not (values.min() >= -RANGE_TOLERANCE and values.max() <= 1.0 + RANGE_TOLERANCE):
            raise ValueError(f"expected {name} finite and in [0, 1], got values from {values.min():.4g} to {values.max():.4g}")
    features = features.reshape(-1, *unary.shape)
    unary = np.maximum(unary, 0.0) ** p
    nodes = np.arange(unary.size, dtype=np.int32).reshape(unary.shape)
    weights = [gaussian(size) for size in kernel_size]
    rows: list[NDArray[np.int32]] = []
    columns: list[NDArray[np.int32]] = []
    entries: list[NDArray[np.float64]] = []
    for places in product(*(range(size) for size in kernel_size)):
        offset = [place - size // 2 for place, size in zip(places, kernel_size, strict=True)]
        if any(abs(step) >= length for step, length in zip(offset, unary.shape, strict=True)):
            continue
        here = tuple(slice(max(-step, 0), length - max(step, 0)) for step, length in zip(offset, unary.shape, strict=True))
        there = tuple(slice(max(step, 0), length - max(-step, 0)) for step, length in zip(offset, unary.shape, strict=True))
        distance = np.square(features[:, *here] - features[:, *there]).mean(0)
        likeness = np.exp(-alpha * distance) if affinity == "exponential" else 1.0 - alpha * distance
        near = np.prod([weight[place] for weight, place in zip(weights, places, strict=True)])
        rows.append(nodes[here].ravel())
        columns.append(nodes[there].ravel())
        entries.append((unary[here] * unary[there] * likeness * near).ravel())
    places_of_entries = np.concatenate(rows), np.concatenate(columns)
    return sparse.coo_array((np.concatenate(entries), places_of_entries), shape=(unary.size, unary.size)).tocsr()


def leading_eigenvector(matrix: Matrix, *, tolerance: float = 0.0) -> tuple[float, NDArray[np.float64]]:
    """The greatest eigenvalue of a symmetric matrix, and its eigenvector with norm 1 and a sum that is not negative.

    Args:
        matrix: `(N, N)`, from `adjacency`; N at least 2.
        tolerance: relative accuracy of the eigenvalue; 0 is the machine's.

    Raises:
        TypeError: no matrix.
        ValueError: a matrix that is not square or not symmetric, has fewer than 2 rows, or nothing but zeros, NaN or infinity in it; a
            tolerance outside [0, 1).
    """
    if not (sparse.issparse(matrix) or isinstance(matrix, np.ndarray)):
        raise TypeError(f"expected a matrix of SciPy or NumPy, got {type(matrix).__name__}; use `adjacency`")
    if not (isinstance(tolerance, Real) and 0.0 <= tolerance < 1.0):
        raise ValueError(f"expected a tolerance of at least 0 and below 1, got {tolerance!r}")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] < 2:
        raise ValueError(f"expected a square matrix of at least 2 rows, got {matrix.shape}")
    largest, unlike = (float(abs(entries).max()) for entries in (matrix, matrix - matrix.T))
    if not 0.0 < largest < np.inf:
        raise ValueError(f"expected finite entries, not all 0, got {largest:g} as the largest; is the unary map empty?")
    if unlike > SYMMETRY_TOLERANCE * largest:
        raise ValueError(f"expected a symmetric matrix, got entries that differ by {unlike:g} from those across the diagonal")
    values, vectors = linalg.eigsh(matrix, k=1, which="LA", v0=np.ones(matrix.shape[0]), tol=tolerance)
    vector = vectors[:, 0]
    return float(values[0]), np.asarray(vector if vector.sum() >= 0.0 else -vector, dtype=np.float64)


def angle_deg(a: ArrayLike, b: ArrayLike) -> float:
    """Angle between two vectors or volumes of any norm but 0, in degrees, in [0, 180].

    Raises:
        ValueError: other lengths, a vector of zeros, NaN or infinity.
    """
    one, other = (np.asarray(vector, dtype=np.float64).ravel() for vector in (a, b))
    if one.shape != other.shape:
        raise ValueError(f"expected two vectors of the same length, got {one.size} and {other.size}")
    norms = np.linalg.norm(one), np.linalg.norm(other)
    if not (min(norms) > 0.0 and max(norms) < np.inf):
        raise ValueError(f"expected two finite vectors other than 0, got norms of {norms[0]:g} and {norms[1]:g}")
    one, other = one / norms[0], other / norms[1]
    # Exact for small angles too, where the arc cosine is not.
    return float(np.degrees(2.0 * np.arctan2(np.linalg.norm(one - other), np.linalg.norm(one + other))))
