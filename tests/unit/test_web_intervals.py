import pytest
from hypothesis import given
from hypothesis import strategies as st

from medx_core.errors import BadInput
from medx_core.evaluation.bootstrap import wilson


def test_wilson_agrees_with_published_values():
    # Newcombe 1998, table I: 81 of 263 and 15 of 148, Wilson score without correction.
    first, second = wilson(81, 263), wilson(15, 148)
    assert (round(first.low, 4), round(first.high, 4)) == (0.2553, 0.3662)
    assert (round(second.low, 4), round(second.high, 4)) == (0.0624, 0.1605)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_between_0_and_1(counts):
    right, n = counts
    share = wilson(right, n)
    assert 0 <= share.low <= right / n <= share.high <= 1
    assert share.low < share.high


def test_nothing_judged_has_no_share():
    assert wilson(0, 0) is None


@pytest.mark.parametrize(("right", "n"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(right, n):
    with pytest.raises(BadInput):
        wilson(right, n)
