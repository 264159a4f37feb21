"""Matrix products cut into pieces: right, and the same however they are shared out."""

import threading

import numpy as np
import pytest

from apprentice.kernels.products import Workers, product


def arrays(rows: int, columns: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(rows + columns + outputs)
    return random.standard_normal((rows, columns), np.float32), random.standard_normal((outputs, columns), np.float32)


def computed(threads: int, x: np.ndarray, weight: np.ndarray, each_row: bool) -> np.ndarray:
    workers = Workers(threads)
    out = np.full((len(x), len(weight)), np.nan, np.float32)
    product(workers, x, weight, out, each_row=each_row)
    workers.close()
    return out


@pytest.mark.parametrize("each_row", [True, False])
@pytest.mark.parametrize("shape", [(1, 16, 1), (1, 576, 960), (3, 64, 63), (5, 4096, 200), (33, 128, 1537), (0, 16, 48)])
def test_products_equal_float64(shape: tuple[int, int, int], each_row: bool) -> None:
    x, weight = arrays(*shape)
    expected = x.astype(np.float64) @ weight.T.astype(np.float64)
    # Rounding: each of the sum's terms by 2^-24, at most as many roundings deep as there are columns.
    np.testing.assert_allclose(computed(2, x, weight, each_row), expected, atol=2e-6 * shape[1] ** 0.5 * 10)


@pytest.mark.parametrize("each_row", [True, False])
def test_results_do_not_depend_on_the_number_of_threads_bit_for_bit(each_row: bool) -> None:
    x, weight = arrays(9, 576, 3072)
    one = computed(1, x, weight, each_row)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(computed(threads, x, weight, each_row), one)


def test_a_row_does_not_depend_on_the_others_bit_for_bit() -> None:
    x, weight = arrays(17, 576, 1000)
    together = computed(2, x, weight, each_row=True)
    for row in range(len(x)):
        np.testing.assert_array_equal(computed(2, x[row : row + 1], weight, each_row=True)[0], together[row])


def test_every_piece_runs_once_whoever_takes_it() -> None:
    workers = Workers(4)
    for count in (0, 1, 2, 3, 100):
        seen: list[int] = []
        workers.run(seen.append, count)
        assert sorted(seen) == list(range(count))
    workers.close()


def test_several_callers_share_the_workers() -> None:
    workers = Workers(3)
    totals = [0] * 4

    def caller(index: int) -> None:
        for _ in range(200):
            seen: list[int] = []
            workers.run(seen.append, 7)
            totals[index] += len(seen)

    callers = [threading.Thread(target=caller, args=(index,)) for index in range(4)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    workers.close()
    assert totals == [1400] * 4


def test_an_error_in_a_piece_comes_out() -> None:
    workers = Workers(2)

    def piece(number: int) -> None:
        if number == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        workers.run(piece, 6)
    seen: list[int] = []
    workers.run(seen.append, 5)
    workers.close()
    assert len(seen) == 5
