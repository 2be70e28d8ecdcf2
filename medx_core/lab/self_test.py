"""How often the instrument itself is wrong: evaluations in a synthetic world, where the right verdict is known.

Two kinds of world where steering cannot help: answers permuted over all statements, and worlds of style alone, where
steering gains much and all of it is wording. `helps` must stay rare there. And worlds with content that the model's
output does not use, at three sizes, measured with three sizes of test set: there `helps` should be found, and how often
it is found is the power. The same for twins, in a world of their own (`TwinWorld`): there steering cannot
help where only association tells the two versions apart, and effects are planted in points of excess. Every run fits
its arms and draws its controls by the functions of `medx_core.fitting` and is judged by those of the evaluation.
"""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core import __version__
from medx_core.evaluation.bootstrap import wilson
from medx_core.evaluation.decision_rule import ASSOCIATION, ASSOCIATION_GAIN
from medx_core.lab.synthetic_arms import (
    CONTROL_PAIRS,
    OUTSIDE,
    TEST_TWINS,
    TRAIN,
    TRAIN_TWINS,
    statement_judgement,
    twin_judgement,
)

TEST = 1_077
NULL_KINDS = ("permuted", "style_only")
ASSOCIATION_ONLY = "association_only"
PLANTED, PLANTED_TWINS = "planted", "planted_twins"
KINDS = (*NULL_KINDS, PLANTED, ASSOCIATION_ONLY, PLANTED_TWINS)
"""A kind's place among them is part of its trials' seeds: new ones go to the end."""
EFFECTS = (3, 6, 12)
TWIN_EFFECTS = (6, 12)
TEST_SIZES = (216, TEST, 5_000)
NULL_RUNS = 200
POWER_RUNS = 50
MOST_FALSE_ALARMS = 0.05
LEAST_POWER = 0.8
POWERED = {PLANTED: ((12, TEST), (6, 5_000)), PLANTED_TWINS: ((12, TEST_TWINS),)}
"""Where the instrument must find what is there: (points of effect, test statements or twins)."""
_MEASURED_IN = {
    PLANTED: "points and {n:,} test statements",
    PLANTED_TWINS: "points of excess and {n:,} twins",
}

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Trial:
    """One evaluation to be run: `kind` is one of KINDS, `effect` in points of balanced accuracy or, of twins, excess.

    `n_test` counts test statements or, of twins, pairs.
    """

    kind: str
    effect: int
    n_test: int
    number: int
    seed: int

    @property
    def key(self) -> tuple[str, int, int]:
        """What it is a repetition of."""
        return self.kind, self.effect, self.n_test


@dataclass(frozen=True)
class Outcome:
    """What the instrument said in one trial."""

    trial: Trial
    helps: bool | None
    failed: tuple[str, ...]


def run_self_test(
    on_progress: OnProgress,
    *,
    processes: int = 2,
    null_runs: int = NULL_RUNS,
    power_runs: int = POWER_RUNS,
    seed: int = 1,
) -> dict[str, Any]:
    """Run all trials and return the error rates: `null`, `power`, the same of `twins`, and whether `targets` are met.

    `on_progress` is told how many trials are done, of how many. The figures depend on `seed` and the numbers of runs
    alone, not on `processes`.
    """
    began = time.perf_counter()
    planned = list(trials(null_runs, power_runs, seed))
    outcomes: list[Outcome] = []
    for outcome in _run_all(planned, processes):
        outcomes.append(outcome)
        on_progress(len(outcomes), len(planned))
    return {
        **summary(outcomes),
        "medx_version": __version__,
        "seed": seed,
        "seconds": time.perf_counter() - began,
    }


def run_trial(trial: Trial) -> Outcome:
    """Make the world of a trial, evaluate in it and return the verdict."""
    random = np.random.default_rng(
        [trial.seed, KINDS.index(trial.kind), trial.effect, trial.n_test, trial.number]
    )
    if trial.kind in (ASSOCIATION_ONLY, PLANTED_TWINS):
        judgement = twin_judgement(trial.effect, trial.n_test, random)
    else:
        permuted = trial.kind == "permuted"
        effect = max(EFFECTS) if permuted else trial.effect
        judgement = statement_judgement(effect, trial.n_test, random, permuted=permuted)
    return Outcome(trial, judgement.helps, judgement.failed_controls)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the JSON of the self-test; `targets` says of each promise whether it holds."""
    by_kind = {kind: _counted(_of(outcomes, kind)) for kind in NULL_KINDS}
    power = _powers(outcomes, PLANTED)
    twins = _on_twins(outcomes)
    return {
        "null": {
            "runs": sum(counted["runs"] for counted in by_kind.values()),
            "helps": sum(counted["helps"] for counted in by_kind.values()),
            "by_kind": by_kind,
        },
        "power": power,
        "twins": twins,
        "targets": [
            *_false_alarms(by_kind),
            *_enough_power(power, PLANTED),
            *_false_alarms({ASSOCIATION_ONLY: twins["null"]}),
            *_enough_power(twins["power"], PLANTED_TWINS),
        ],
        "n_train": TRAIN,
        "n_test": TEST,
        "fitted_on": TRAIN + OUTSIDE,
    }


def trials(null_runs: int, power_runs: int, seed: int) -> Iterator[Trial]:
    """Plan the trials, those with large test sets first, so that no process is left alone with one at the end."""
    for n_test in sorted(TEST_SIZES, reverse=True):
        for effect in EFFECTS:
            yield from (Trial(PLANTED, effect, n_test, number, seed) for number in range(power_runs))
    for effect in TWIN_EFFECTS:
        yield from (Trial(PLANTED_TWINS, effect, TEST_TWINS, number, seed) for number in range(power_runs))
    yield from (Trial(ASSOCIATION_ONLY, 0, TEST_TWINS, number, seed) for number in range(null_runs))
    for kind in reversed(NULL_KINDS):
        yield from (Trial(kind, 0, TEST, number, seed) for number in range(null_runs))


def _run_all(planned: Sequence[Trial], processes: int) -> Iterator[Outcome]:
    if processes <= 1:
        yield from map(_run_on_one_thread, planned)
        return
    spawn = multiprocessing.get_context("spawn")  # a process that holds torch must not fork
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        for done in as_completed([pool.submit(_run_on_one_thread, trial) for trial in planned]):
            yield done.result()


def _run_on_one_thread(trial: Trial) -> Outcome:
    """The processes share the cores: threads of one library would only wait for those of another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return run_trial(trial)
    finally:
        torch.set_num_threads(threads)


def _counted(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "runs": len(outcomes),
        "helps": sum(outcome.helps is True for outcome in outcomes),
        "cannot_tell": sum(outcome.helps is None for outcome in outcomes),
        "failed_controls": dict(sorted(Counter(name for o in outcomes for name in set(o.failed)).items())),
    }


def _of(outcomes: Sequence[Outcome], kind: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.trial.kind == kind]


def _on_twins(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    null = _of(outcomes, ASSOCIATION_ONLY)
    of_twins = {ASSOCIATION, ASSOCIATION_GAIN}
    return {
        "null": _counted(null),
        "power": _powers(outcomes, PLANTED_TWINS),
        "without_association": sum(o.helps is not None and set(o.failed) <= of_twins for o in null),
        "n_train": TRAIN_TWINS,
        "n_test": TEST_TWINS,
        "n_control": CONTROL_PAIRS,
    }


def _powers(outcomes: Sequence[Outcome], kind: str) -> list[dict[str, Any]]:
    powers = []
    for key in sorted({outcome.trial.key for outcome in _of(outcomes, kind)}):
        counted = _counted([outcome for outcome in outcomes if outcome.trial.key == key])
        share = wilson(counted["helps"], counted["runs"])
        power = {} if share is None else {"power": share.value, "low": share.low, "high": share.high}
        powers.append({"effect": key[1], "n": key[2], **power, **counted})
    return powers


def _false_alarms(by_kind: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "target": f"helps is true in at most {MOST_FALSE_ALARMS:.0%} of the {kind} runs",
            "found": counted["helps"] / counted["runs"],
            "met": counted["helps"] <= MOST_FALSE_ALARMS * counted["runs"],
        }
        for kind, counted in by_kind.items()
        if counted["runs"]
    ]


def _enough_power(power: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [
        {
            "target": f"power is {LEAST_POWER} or more at {cell['effect']} {_MEASURED_IN[kind].format(n=cell['n'])}",
            "found": cell["power"],
            "met": cell["power"] >= LEAST_POWER,
        }
        for cell in power
        if (cell["effect"], cell["n"]) in POWERED[kind]
    ]
