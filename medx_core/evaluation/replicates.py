"""Several evaluations of one thing, with other seeds or other twins: what they agree on.

One draw of statements, one split and one coupling of twins are luck in part, and whoever looks at five and reports the
best has measured nothing. So replicates are reported together: the mean over all of them, and how far they are apart.

They draw on the same statements and are not independent of each other. The interval of a mean is therefore as wide as
one run's: the mean of the lower and the mean of the upper ends. It is narrower only if the runs differ more in luck
than in what they share, which nobody knows.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from pydantic import Field

from medx_core.errors import BadInput
from medx_core.evaluation.number_format import written
from medx_core.evaluation.result import (
    ArmMetrics,
    ArmResult,
    ControlResult,
    DrawnMetric,
    EvaluationResult,
    Metric,
    Value,
)

FEWEST = 2
ALIKE = {
    "n_train": "statements to train",
    "n_test": "statements to test",
    "device": "device and number type",
    "medx_version": "version of MedX",
    "data": "name of the data",
    "judged.arm": "arm that is judged",
    "settings.fit_on": "what gates are fitted on",
    "settings.sample": "statements drawn",
    "settings.prompt": "given prompt",
    "settings.category": "how categories are found",
    "matched.kind": "kind of the wording-free part, whose figures are then not averaged",
    "matched.valid": "whether the wording-free part is valid",
}
"""What should be the same in replicates, by its place in the result."""
_ONE_RUN = attrgetter("model_sha256", "data_sha256", "seed", "settings", "device", "medx_version")
SHORT_HASH = 8


class MeanMetric(Value):
    """The mean of a figure over the runs that have it."""

    value: float = Field(description="the mean")
    low: float | None = Field(description="mean of the lower ends; null for draws of controls")
    high: float | None = Field(description="mean of the upper ends")
    lowest: float = Field(description="the lowest run")
    highest: float = Field(description="the highest run")
    runs: int = Field(description="number of runs that have the figure")


class ReplicatedPart(Value):
    """Means on the wording-free part; null where the runs have parts of different kinds."""

    accuracy: MeanMetric | None = Field(description="share of twins ranked right, or balanced accuracy")
    association: MeanMetric | None = Field(description="share of FALSE pairs with the original preferred")
    excess: MeanMetric | None = Field(description="share of twins ranked right minus `association`")
    excess_same_kinds: MeanMetric | None = Field(description="the same for the control's kinds of word")
    accuracy_difference: MeanMetric | None = Field(description="accuracy minus that of the unsteered arm")
    excess_difference: MeanMetric | None = Field(description="excess minus that of the unsteered arm")


class ReplicatedArm(ArmMetrics[MeanMetric]):
    """Means of one arm."""

    safety_error_rate: MeanMetric | None = Field(description="wrong answers of harm moderate or worse")
    answer_word_rate: MeanMetric | None = Field(description="share with an answer word as the next token")
    vs_unsteered: MeanMetric | None = Field(description="accuracy minus that of the unsteered arm")
    matched: ReplicatedPart = Field(description="means on the wording-free part")


class ReplicatedModel(Value):
    """The evaluations of one model."""

    runs: int = Field(description="number of evaluations")
    seeds: tuple[int, ...] = Field(description="their seeds")
    data_sha256: tuple[str, ...] = Field(description="hashes of their data")
    helps: dict[str, int] = Field(description="how often the verdict is true, false and null")
    arms: dict[str, ReplicatedArm] = Field(description="means by arm")


class Replicates(Value):
    """What several evaluations have in common, model by model."""

    models: dict[str, ReplicatedModel] = Field(description="means by model")
    remarks: tuple[str, ...] = Field(description="what differs between the runs besides the seed")


def replicated(results: Sequence[EvaluationResult]) -> Replicates:
    """Return what evaluations have in common, model by model.

    Raises:
        BadInput: there are fewer than two results of a model, or one appears twice.
    """
    if len(results) < FEWEST:
        raise BadInput(f"Replicates are {FEWEST} evaluations or more; {len(results)} were given.")
    origins = [_ONE_RUN(result) for result in results]
    for place, origin in enumerate(origins):
        if origin in origins[:place]:
            raise BadInput(f"Result {place + 1} appears twice: same model, data, seed, settings and device.")
    by_model: dict[tuple[str, str], list[EvaluationResult]] = defaultdict(list)
    for result in results:
        by_model[result.model, result.model_sha256].append(result)
    titles = {key: _title(key, by_model) for key in by_model}
    lonely = [titles[key] for key, runs in by_model.items() if len(runs) < FEWEST]
    if lonely:
        raise BadInput(
            f"There is one evaluation of {lonely[0]} only; replicates are {FEWEST} or more of each model."
        )
    return Replicates(
        models={titles[key]: _model(runs) for key, runs in by_model.items()},
        remarks=tuple(remark for key, runs in by_model.items() for remark in _remarks(titles[key], runs)),
    )


def _title(key: tuple[str, str], others: Iterable[tuple[str, str]]) -> str:
    """Return a model's name, with the start of its hash where another one has the same name."""
    name, sha256 = key
    return name if sum(name == other for other, _ in others) == 1 else f"{name} ({sha256[:SHORT_HASH]})"


def _model(runs: Sequence[EvaluationResult]) -> ReplicatedModel:
    names = dict.fromkeys(name for run in runs for name in run.arms)
    verdicts = Counter(json.dumps(run.helps) for run in runs)
    return ReplicatedModel(
        runs=len(runs),
        seeds=tuple(run.seed for run in runs),
        data_sha256=tuple(run.data_sha256 for run in runs),
        helps={name: verdicts[name] for name in ("true", "false", "null")},
        arms={name: _arm([run.arms[name] for run in runs if name in run.arms]) for name in names},
    )


def _arm(arms: Sequence[ArmResult | ControlResult]) -> ReplicatedArm:
    parts = [arm.matched for arm in arms]
    if len({part.kind for part in parts}) > 1:
        parts = []  # a share of twins and an accuracy have no mean
    gains = [getattr(part, "vs_unsteered", None) for part in parts]
    matched = {
        name: _mean(gains if name.endswith("_difference") else parts, name)
        for name in ReplicatedPart.model_fields
    }
    gain = _mean([arm.vs_unsteered for arm in arms], "accuracy_difference")
    names = set(ReplicatedArm.model_fields) - {"vs_unsteered", "matched"}
    figures = {name: _mean(arms, name) for name in names}
    return ReplicatedArm.model_validate(figures | {"vs_unsteered": gain, "matched": matched})


def _mean(holders: Sequence[object], name: str) -> MeanMetric | None:
    """Return the mean of the figure `name` over those that have it, with its interval where all of these have one."""
    known: list[Metric | DrawnMetric] = [
        metric for holder in holders if (metric := getattr(holder, name, None)) is not None
    ]
    if not known:
        return None
    values = [metric.value for metric in known]
    intervals = [metric for metric in known if isinstance(metric, Metric)]
    whole = len(intervals) == len(known)
    return MeanMetric(
        value=sum(values) / len(values),
        low=sum(metric.low for metric in intervals) / len(known) if whole else None,
        high=sum(metric.high for metric in intervals) / len(known) if whole else None,
        lowest=min(values),
        highest=max(values),
        runs=len(known),
    )


def _remarks(name: str, runs: Sequence[EvaluationResult]) -> Iterator[str]:
    for place, meaning in ALIKE.items():
        values = sorted({written(attrgetter(place)(run)) for run in runs})
        if len(values) > 1:
            yield f"{name}: the runs differ in {meaning}: {', '.join(values)}."
