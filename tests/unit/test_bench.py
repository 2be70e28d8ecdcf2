"""The benches of `medx bench`, as far as they need no clock."""

from medx_core.cli.bench import both_arms_of
from tests.language_models import tiny_model


def test_both_arms_are_held_against_one_arm_of_the_same_statements():
    result = both_arms_of(tiny_model(), repeats=2)
    assert 0 < result.low <= result.ratio <= result.high
    assert (result.ours, result.theirs) == (result.parts["both arms"], result.parts["one arm"])
    assert len(result.parts) == 6, "one, two and three arms, alone and in a micro-batch"
