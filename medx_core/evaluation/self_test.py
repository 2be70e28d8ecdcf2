"""How often the instrument itself is wrong: evaluations in a synthetic world, where the right verdict is known.

Two kinds of world where steering cannot help: answers permuted over all statements, and worlds of style alone, where
steering gains much and all of it is wording. `helps` must stay rare there. And worlds with content that the model's
output does not use, at three sizes, measured with three sizes of test set: there `helps` should be found, and how often
it is found is the power. Every run fits its arms, draws its controls and is judged by the function of the real
evaluation.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core.evaluation.arms import TestItems
from medx_core.evaluation.bootstrap import resamples
from medx_core.evaluation.helps import Contest, Judgement, judged
from medx_core.evaluation.intervals import wilson
from medx_core.evaluation.synthetic_arms import fit_arms
from medx_core.evaluation.synthetic_world import DISTANCES, Sample, World, worded
from medx_core.evaluation.wording_free import wording_free_part

TRAIN = 861
TEST = 1_077
OUTSIDE = 4_000
"""Labelled statements that are neither train nor test; with the train part, readers of wording are fitted on them."""
NULL_KINDS = ("permuted", "style_only")
EFFECTS = (3, 6, 12)
TEST_SIZES = (216, TEST, 5_000)
NULL_RUNS = 200
POWER_RUNS = 50
MOST_FALSE_ALARMS = 0.05
LEAST_POWER = 0.8
POWERED = ((12, TEST), (6, 5_000))
"""Where the instrument must find what is there: (points of effect, test statements)."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Trial:
    """One evaluation to be run: `kind` is a null kind or "planted", `effect` in points of balanced accuracy."""

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
    """Run all trials and return the error rates: `{"null": {...}, "power": [...]}`.

    `on_progress` is told how many trials are done, of how many. The figures depend on `seed` and the numbers of runs
    alone, not on `processes`.
    """
    began = time.perf_counter()
    planned = list(trials(null_runs, power_runs, seed))
    outcomes: list[Outcome] = []
    for found in _run_all(planned, processes):
        outcomes.append(found)
        on_progress(len(outcomes), len(planned))
    return {**summary(outcomes), "seed": seed, "seconds": time.perf_counter() - began}


def run_trial(trial: Trial) -> Outcome:
    """Make the world of a trial, evaluate in it and return the verdict."""
    judgement = _judgement(trial)
    return Outcome(trial, judgement.helps, judgement.failed)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the JSON of the self-test; `targets` says of each promise whether it holds."""
    by_kind = {kind: _counted([one for one in outcomes if one.trial.kind == kind]) for kind in NULL_KINDS}
    cells = sorted({one.trial.key for one in outcomes if one.trial.kind == "planted"})
    power = [_power(key, [one for one in outcomes if one.trial.key == key]) for key in cells]
    return {
        "null": {
            "runs": sum(one["runs"] for one in by_kind.values()),
            "helps": sum(one["helps"] for one in by_kind.values()),
            "by_kind": by_kind,
        },
        "power": power,
        "targets": _targets(by_kind, power),
        "n_train": TRAIN,
        "n_test": TEST,
        "fitted_on": TRAIN + OUTSIDE,
    }


def trials(null_runs: int, power_runs: int, seed: int) -> Iterator[Trial]:
    """Plan the trials, those with large test sets first, so that no process is left alone with one at the end."""
    for n_test in sorted(TEST_SIZES, reverse=True):
        for effect in EFFECTS:
            yield from (Trial("planted", effect, n_test, number, seed) for number in range(power_runs))
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


def _judgement(trial: Trial) -> Judgement:
    kinds = (*NULL_KINDS, "planted")
    random = np.random.default_rng(
        [trial.seed, kinds.index(trial.kind), trial.effect, trial.n_test, trial.number]
    )
    planted = max(EFFECTS) if trial.kind == "permuted" else trial.effect
    world = World(DISTANCES[planted], int(random.integers(2**31)))
    train, test = world.sample(TRAIN, random), world.sample(trial.n_test, random)
    style, gold = world.wording(OUTSIDE, random)
    if trial.kind == "permuted":
        train, test, gold = _permuted(train, random), _permuted(test, random), random.permutation(gold)
    fitted = fit_arms(world, train, random)
    items = TestItems(worded(test.style, test.gold, "test "))
    wording = worded(train.style, train.gold, "train ") + worded(style, gold, "outside ")
    seed = int(random.integers(2**31))
    contest = Contest(
        items,
        {one.name: one for one in fitted.arms(test.states)},
        fitted.controls(test.states, random),
        resamples(items.gold, items.groups, seed=seed),
        cache(lambda: wording_free_part(items, wording, seed=seed)),
    )
    return judged(contest, "gated", thorough=False)


def _permuted(sample: Sample, random: np.random.Generator) -> Sample:
    return Sample(sample.style, random.permutation(sample.gold), sample.states)


def _counted(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    failed = sorted({name for one in outcomes for name in one.failed})
    return {
        "runs": len(outcomes),
        "helps": sum(one.helps is True for one in outcomes),
        "cannot_tell": sum(one.helps is None for one in outcomes),
        "failed_controls": {name: sum(name in one.failed for one in outcomes) for name in failed},
    }


def _power(key: tuple[str, int, int], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    counted = _counted(outcomes)
    share = wilson(counted["helps"], counted["runs"])
    power = {} if share is None else {"power": share.value, "low": share.low, "high": share.high}
    return {"effect": key[1], "n": key[2], **power, **counted}


def _targets(
    by_kind: Mapping[str, Mapping[str, Any]], power: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    false_alarms = [
        {
            "target": f"helps is true in at most {MOST_FALSE_ALARMS:.0%} of the {kind} runs",
            "found": found["helps"] / found["runs"],
            "met": found["helps"] <= MOST_FALSE_ALARMS * found["runs"],
        }
        for kind, found in by_kind.items()
        if found["runs"]
    ]
    powers = [
        {
            "target": f"power is {LEAST_POWER} or more at {cell['effect']} points and {cell['n']:,} test statements",
            "found": cell["power"],
            "met": cell["power"] >= LEAST_POWER,
        }
        for cell in power
        if (cell["effect"], cell["n"]) in POWERED
    ]
    return false_alarms + powers
