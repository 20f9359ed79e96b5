from hypothesis import given
from hypothesis import strategies as st

from services.core.chunks import chunks


def cut(sizes, size):
    return [
        [(share.of, share.start, share.stop, share.is_last) for share in chunk]
        for chunk in chunks(range(len(sizes)), sizes.__getitem__, size)
    ]


def test_large_works_are_cut_and_small_ones_laid_together():
    assert cut([5, 1, 0, 2], 3) == [
        [(0, 0, 3, False)],
        [(0, 3, 5, True), (1, 0, 1, True)],
        [(2, 0, 0, True), (3, 0, 2, True)],
    ]


def test_a_work_that_fills_a_chunk_leaves_nothing_behind():
    assert cut([3, 3], 3) == [[(0, 0, 3, True)], [(1, 0, 3, True)]]


@given(st.lists(st.integers(0, 20), max_size=8), st.integers(1, 7))
def test_every_unit_comes_once_in_order_and_every_work_ends_once(sizes, size):
    found = cut(sizes, size)
    shares = [share for chunk in found for share in chunk]
    units = [(of, unit) for of, start, stop, _ in shares for unit in range(start, stop)]
    assert units == [(of, unit) for of, count in enumerate(sizes) for unit in range(count)]
    assert [of for of, _, _, is_last in shares if is_last] == list(range(len(sizes)))
    full = [sum(stop - start for _, start, stop, _ in chunk) for chunk in found]
    assert all(count == size for count in full[:-1])
    assert all(count <= size for count in full)


def test_works_are_asked_for_as_they_are_needed():
    asked = []

    def works():
        for work in range(3):
            asked.append(work)
            yield work

    next(chunks(works(), lambda _: 2, 2))
    assert asked == [0]
