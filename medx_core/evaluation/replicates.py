"""Several evaluations of one thing, with other seeds or other twins: what they agree on.

One draw of statements, one split and one coupling of twins are luck in part, and who looks at five and tells of the
best has measured nothing. So replicates are told together: the mean over all of them, and how far they lie apart.

They draw on the same statements and are not independent of each other. The interval given for a mean therefore is as
wide as one run's: the mean of the lower and the mean of the upper ends. It is narrower only if the runs differ more in
luck than in what they share, which nobody knows.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from medx_core.errors import BadInput
from medx_core.evaluation.number_format import written
from medx_core.evaluation.report.readings import Figure, Json, evaluation, figure, part

FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "predicted_true_rate",
    "false_acceptance_rate",
    "safety_error_rate",
    "answer_word_rate",
)
ON_THE_WORDING_FREE_PART = ("accuracy", "association", "excess", "excess_same_kinds")
GAINED = ("accuracy_difference", "excess_difference")
"""What steering adds there, paired with the unsteered arm."""
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
"""What should be the same in replicates, by its place in the JSON."""
ALL_OF_A_RUN = ("model_sha256", "data_sha256", "seed", "settings", "device", "medx_version")
SHORT_HASH = 8


def replicated(results: Sequence[Json]) -> dict[str, Any]:
    """Return what the JSON objects of `medx evaluate` have in common, model by model.

    Returns:
        `models`: for each model's name `runs`, `seeds`, `helps` (how often true, false, null) and `arms`, with a mean
        of every figure: `{value, low, high, lowest, highest, runs}`, figures of the wording-free part under
        `matched`; `remarks`: sentences on what differs between the runs besides the seed.

    Raises:
        BadInput: there are fewer than two results, one is none of an evaluation, or one stands there twice.
    """
    if len(results) < FEWEST:
        raise BadInput(f"Replicates are {FEWEST} evaluations or more; {len(results)} were given.")
    _checked(results)
    by_model: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for one in results:
        by_model[str(one["model"]), str(one.get("model_sha256"))].append(one)
    titles = {key: _title(key, by_model) for key in by_model}
    lonely = [titles[key] for key, runs in by_model.items() if len(runs) < FEWEST]
    if lonely:
        raise BadInput(
            f"There is one evaluation of {lonely[0]} only; replicates are {FEWEST} or more of each model."
        )
    return {
        "models": {titles[key]: _one_model(runs) for key, runs in by_model.items()},
        "remarks": [said for key, runs in by_model.items() for said in _remarks(titles[key], runs)],
    }


def _title(key: tuple[str, str], others: Iterable[tuple[str, str]]) -> str:
    """Return a model's name, with the start of its hash where another one is called the same."""
    name, sha256 = key
    return name if sum(name == other for other, _ in others) == 1 else f"{name} ({sha256[:SHORT_HASH]})"


def _checked(results: Sequence[Json]) -> None:
    seen: set[tuple[object, ...]] = set()
    for number, one in enumerate(results, start=1):
        if not part(one, "arms") or "model" not in one or "seed" not in one:
            raise BadInput(
                f"Result {number} is not what `medx evaluate --json` writes: it has no arms, model or seed."
            )
        key = tuple(str(one.get(name)) for name in ALL_OF_A_RUN)
        if key in seen:
            raise BadInput(
                f"Result {number} stands there twice: same model, data, seed, settings and device."
            )
        seen.add(key)


def _one_model(runs: Sequence[Json]) -> dict[str, Any]:
    names = dict.fromkeys(arm.name for one in runs for arm in evaluation(one).arms)
    verdicts = Counter(json.dumps(one.get("helps")) for one in runs)
    return {
        "runs": len(runs),
        "seeds": [one["seed"] for one in runs],
        "data_sha256": [one.get("data_sha256") for one in runs],
        "helps": {name: verdicts[name] for name in ("true", "false", "null")},
        "arms": {name: _one_arm([part(part(one, "arms"), name) for one in runs]) for name in names},
    }


def _one_arm(arms: Sequence[Json]) -> dict[str, Any]:
    free = [part(arm, "matched") for arm in arms]
    if len({one.get("kind") for one in free if one}) > 1:
        free = []  # a share of twins and an accuracy have no mean
    against = [part(arm, "vs_unsteered") for arm in arms]
    return {
        **{name: _mean([figure(arm.get(name)) for arm in arms]) for name in FIGURES},
        "vs_unsteered": _mean([figure(one.get("accuracy_difference")) for one in against]),
        "matched": {
            **{name: _mean([figure(one.get(name)) for one in free]) for name in ON_THE_WORDING_FREE_PART},
            **{name: _mean([figure(part(one, "vs_unsteered").get(name)) for one in free]) for name in GAINED},
        },
    }


def _mean(figures: Sequence[Figure | None]) -> dict[str, float | int] | None:
    """Return the mean over the runs that have the figure, with its interval where all of these have one."""
    known = [one for one in figures if one is not None]
    if not known:
        return None
    values = [one.value for one in known]
    found: dict[str, float | int] = {"value": sum(values) / len(values)}
    ends = [one.interval for one in known if one.interval]
    if len(ends) == len(known):
        low, high = (sum(end) / len(ends) for end in zip(*ends, strict=True))
        found |= {"low": low, "high": high}
    return {**found, "lowest": min(values), "highest": max(values), "runs": len(known)}


def _remarks(name: str, runs: Sequence[Json]) -> Iterator[str]:
    for place, what in ALIKE.items():
        values = sorted({_at(one, place) for one in runs})
        if len(values) > 1:
            yield f"{name}: the runs differ in {what}: {', '.join(values)}."


def _at(result: Json, place: str) -> str:
    found: object = result
    for key in place.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return written(found)
