"""Figures of test items whose scores a test sets: the real way from scores to figures, without a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems
from medx_core.evaluation.items import TestScores
from medx_core.evaluation.result_builder import figures_of
from medx_core.evaluation.wording_free import read_wording


def scores_of(
    items: TestItems,
    arms: Sequence[ArmScores],
    controls: Sequence[ControlDraws],
    *,
    wording: Sequence[LabelledStatement] = (),
) -> TestScores:
    """The scores of one model, with the gated arm declared."""
    tested = items.among(items.counted)
    return TestScores(
        model="tiny",
        model_sha256="0" * 64,
        device="cpu float32",
        data_sha256="1" * 64,
        seed=1,
        declared="gated",
        items=items,
        arms=tuple(arms),
        controls=tuple(controls),
        wording=read_wording(tested, wording, seed=1),
        fitted_on=np.zeros(len(tested), dtype=bool),
    )


def figures(*args: Any, **given: Any) -> dict[str, Any]:
    """All figures of such scores, as they are in the JSON."""
    return figures_of(scores_of(*args, **given)).model_dump(mode="json")
