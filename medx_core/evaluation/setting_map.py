"""The map of layers and strengths of the gated arm, made from the training part alone.

It is for looking at: how narrow the good settings are. The arm's own layer and strength were chosen by all five folds
(see `gated_arm`); the map shows one of them, whose statements the gates of the map have not seen.
"""

from typing import Any

from medx_core.evaluation.gated_arm import GRADIENT_TEXTS, STRENGTHS, GatedArm, TrainingRun, folds_of
from medx_core.fitting.sweep import SweepMap, SweepRecipe, spread
from medx_core.steering.gate import gated_shift
from medx_core.steering.strategies import GATED
from medx_core.traces.answer_gradient import answer_gradients
from medx_core.traces.running import OnProgress, silent
from medx_core.traces.statement_runner import RunScores, StatementRunner, SteeringCell

MOST_LAYERS = 10
NOTE = (
    "One fold of the training part, by gates fitted on the other four. The arm's own layer and strength were chosen by "
    "all five."
)
MAP_STRENGTHS = tuple(sorted({1.0, *STRENGTHS, 16.0}))


def setting_map(
    runner: StatementRunner, run: TrainingRun, chosen: GatedArm, on_progress: OnProgress = silent
) -> dict[str, Any]:
    """Return `sweep` of the JSON: figures of up to eleven layers by five strengths, the chosen setting among them.

    Raises:
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    fitted, asked = folds_of(run)[0]
    layers = _layers(run, chosen.layer)
    texts = [one.text for one in run.statements]
    gradients = answer_gradients(runner, texts[:GRADIENT_TEXTS], layers)
    gates = {layer: run.fit(layer, fitted) for layer in layers}
    recipe = SweepRecipe(layers, MAP_STRENGTHS, strategy=GATED, on_twins=run.on_twins)
    cells = tuple(
        SteeringCell(layer, gated_shift(gates[layer], gradients[layer], strength, chosen.offset))
        for layer in layers
        for strength in MAP_STRENGTHS
    )
    runs = runner.steered([texts[i] for i in asked], cells, on_progress)
    words = run.recorded.answer_words
    unsteered = RunScores(run.recorded.scores[asked], None if words is None else words[asked])
    found = SweepMap(recipe, cells, tuple(runs), unsteered, run.gold[asked], len(fitted), {}, runner.resumes)
    return {**found.as_json(), "note": NOTE}


def _layers(run: TrainingRun, chosen: int) -> tuple[int, ...]:
    recorded = sorted(run.recorded.states)
    return tuple(sorted({chosen, *(recorded[place] for place in spread(len(recorded), MOST_LAYERS))}))
