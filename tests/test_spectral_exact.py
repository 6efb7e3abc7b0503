"""The explicit matrix and its eigenvector, against values of other solvers."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from sftrack.spectral import exact
from tests.spectral_reference import made, reference

SETTINGS = [((3, 5, 5), 0.5), ((5, 5, 5), 0.2)]


@pytest.mark.parametrize(("kernel_size", "p"), SETTINGS)
def test_matrix_and_eigenvectors_equal_the_reference(shared: Path, kernel_size: tuple[int, int, int], p: float) -> None:
    stored, prefix = reference(shared), f"graph_k{'x'.join(map(str, kernel_size))}_p{p}_a1_"
    s, f = (made(f"graph.{name}", (6, 8, 8)) for name in "sf")
    vectors = []
    for equation, affinity in (("eq1", "exponential"), ("eq2", "first_order")):
        matrix = exact.adjacency(s, f, p=p, alpha=1.0, kernel_size=kernel_size, affinity=affinity)
        value, vector = exact.leading_eigenvector(matrix)
        np.testing.assert_allclose(matrix.sum(1), stored[f"{prefix}{equation}_row_sums"], atol=1e-6)
        np.testing.assert_allclose(matrix[[200]].toarray()[0], stored[f"{prefix}{equation}_row_200"], atol=1e-6)
        assert value == pytest.approx(stored[f"{prefix}{equation}_top3_eigenvalues"].max(), abs=1e-9)
        np.testing.assert_allclose(vector, stored[f"{prefix}{equation}_principal_eigenvector"], atol=1e-9)
        vectors.append(vector)
    assert exact.angle_deg(*vectors) == pytest.approx(float(stored[f"{prefix}angle_deg_eq1_vs_eq2_eigenvector"]), abs=1e-6)


def test_the_matrix_is_exactly_symmetric_and_links_only_neighbours() -> None:
    s, f = np.random.default_rng(0).random((2, 4, 6, 5))
    matrix = exact.adjacency(s, [f, s], p=0.3, alpha=2.0, kernel_size=(3, 5, 3), affinity="exponential")
    assert abs(matrix - matrix.T).max() == 0.0
    t, y, x = np.unravel_index(matrix.tocoo().coords, s.shape)
    for places, reach in ((t, 1), (y, 2), (x, 1)):
        assert np.abs(places[0] - places[1]).max() == reach
    assert (matrix.diagonal() > 0.0).all()


@pytest.mark.parametrize("degrees", [0.0, 1e-7, 0.5, 70.0, 90.0, 180.0])
def test_angles_are_exact_even_when_small(degrees: float) -> None:
    radians = np.radians(degrees)
    assert exact.angle_deg([3.0, 0.0], [np.cos(radians), np.sin(radians)]) == pytest.approx(degrees, rel=1e-6, abs=1e-12)


GOOD = np.full((2, 3, 3), 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"s": GOOD[0]}, r"s of shape \(T, H, W\).* got \(3, 3\)"),
        ({"f": GOOD[:1]}, r"got \(2, 3, 3\) and \(1, 3, 3\)"),
        ({"s": GOOD * 3}, r"s finite and in \[0, 1\], got values from 1.5"),
        ({"f": GOOD * np.nan}, r"f finite and in \[0, 1\], got values from nan"),
        ({"affinity": "gaussian"}, r"'exponential' or 'first_order', got 'gaussian'"),
        ({"p": -1.0}, r"p to be a number from 0"),
    ],
)
def test_bad_input_of_the_matrix_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exact.adjacency(**{"s": GOOD, "f": GOOD, "p": 0.2, "alpha": 1.0, **change})


def test_bad_input_of_the_eigenvector_and_the_angle_is_named() -> None:
    with pytest.raises(ValueError, match=r"square matrix of at least 2 rows, got \(2, 3\)"):
        exact.leading_eigenvector(sparse.csr_array(np.ones((2, 3))))
    with pytest.raises(ValueError, match=r"not all 0, got 0 as the largest"):
        exact.leading_eigenvector(exact.adjacency(GOOD * 0.0, GOOD, p=0.2, alpha=1.0))
    with pytest.raises(ValueError, match=r"finite entries.* got nan"):
        exact.leading_eigenvector(sparse.csr_array(np.full((3, 3), np.nan)))
    with pytest.raises(ValueError, match=r"a symmetric matrix, got entries that differ by 1"):
        exact.leading_eigenvector(sparse.csr_array(np.triu(np.ones((3, 3)))))
    with pytest.raises(TypeError, match="expected a matrix of SciPy or NumPy, got list"):
        exact.leading_eigenvector([[1.0, 0.0], [0.0, 1.0]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tolerance of at least 0 and below 1, got nan"):
        exact.leading_eigenvector(sparse.csr_array(np.eye(3)), tolerance=np.nan)
    with pytest.raises(ValueError, match=r"same length, got 2 and 3"):
        exact.angle_deg(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match=r"other than 0"):
        exact.angle_deg(np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match=r"two finite vectors.* got norms of inf"):
        exact.angle_deg(np.full(2, np.inf), np.ones(2))
