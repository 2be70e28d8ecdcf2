"""The result of an evaluation: one versioned schema, written by the evaluation and read by everything else.

The JSON of `medx evaluate` is `EvaluationResult` field by field; `docs/evaluation-json.md` is made from the
descriptions below. A figure is a value with its interval or with the draws of a control, or null, and then `reasons`
says why. Needs no numerical library, so that pages can read results.
"""

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from medx_core.calibration import AbstentionRule, Calibration
from medx_core.errors import BadInput
from medx_core.evaluation.verdicts import Verdict
from medx_core.metric import Metric as Metric
from medx_core.metric import Value as Value

SCHEMA_VERSION: Literal[2] = 2
UNSTEERED = "unsteered"
PROBE, SCORE = "probe", "score"
"""The kinds of confidence in an arm's answers; the probe is an arm as well."""
CLASSIFIERS = (PROBE, "lexical")
"""Reference lines: arms that are classifiers, not language models."""


class DrawnMetric(Value):
    """A figure of a control that was drawn many times."""

    value: float = Field(description="the median draw")
    draws: tuple[float, ...] = Field(description="the figure of every draw")


Figure = TypeVar("Figure")


class ArmMetrics(Value, Generic[Figure]):
    """The figures that arms, controls and means over several runs have in common."""

    accuracy: Figure | None = Field(description="share of items answered right")
    balanced_accuracy: Figure | None = Field(description="mean of the shares right of TRUE and FALSE items")
    auroc: Figure | None = Field(description="area under the ROC curve of the scores")
    predicted_true_rate: Figure | None = Field(description="share of items answered TRUE")
    false_acceptance_rate: Figure | None = Field(description="share of FALSE items answered TRUE")


class SafetyErrorRate(Metric):
    """Wrong answers on items of harm moderate or worse, over all items with a harm label."""

    false_acceptance: Metric | None = Field(description="the part of it that is FALSE answered TRUE")
    false_rejection: Metric | None = Field(description="the part of it that is TRUE answered FALSE")


class CalibrationBin(Value):
    """One of at most ten bins of about equal size by the probability of TRUE; equal probabilities share a bin."""

    mean_score: float = Field(description="mean probability of TRUE")
    share_true: float = Field(description="share of items whose gold answer is TRUE")
    n: int = Field(description="number of items")


class RiskPoint(Value):
    """One point of the risk-coverage curve."""

    coverage: float = Field(description="share of items answered, the most confident first")
    risk: float = Field(description="share of wrong answers among them")


class Reliability(Value):
    """How far probabilities can be trusted."""

    brier: Metric | None = Field(description="Brier score")
    ece: Metric | None = Field(description="expected calibration error over bins of about equal size")
    bins: tuple[CalibrationBin, ...] = Field(description="the bins, from the lowest probability of TRUE up")


class CalibrationFigures(Reliability):
    """How far the bare scores of an arm can be trusted, read as probabilities."""

    risk_coverage: tuple[RiskPoint, ...] = Field(description="risk at coverages of 5 % to 100 %")


class CalibratedFigures(Reliability):
    """How far the probabilities can be trusted that an arm's scores are mapped to (`choices.calibrations`)."""

    is_probability: bool = Field(
        description="whether the number may be called a probability: the whole interval of `ece` lies below 0.05"
    )


class RiskCurve(Value):
    """How many of an arm's answers are wrong when only the surest count, by one kind of confidence."""

    points: tuple[RiskPoint, ...] = Field(description="risk at coverages of 5 % to 100 %")
    mean_risk: Metric | None = Field(description="mean risk over all coverages: the area under the curve")


class AbstentionFigures(Value):
    """What the rule of `choices.abstention_rules` does to the test items."""

    coverage: Metric | None = Field(description="share of items whose answer is trusted; 0 without a promise")
    error: Metric | None = Field(description="share of wrong answers among these")
    error_of_rest: Metric | None = Field(description="share of wrong answers among the others")


class Example(Value):
    """One test item before and after steering."""

    row: int = Field(description="row of the data file: the first below the header is 1")
    statement: str = Field(description="the statement")
    answer: bool = Field(description="the gold answer")
    unsteered_score: float = Field(description="score of the arm that is compared with")
    score: float = Field(description="score of this arm")


class Examples(Value):
    """The first ten items of each direction."""

    helped: tuple[Example, ...] = Field(description="wrong before, right in this arm")
    harmed: tuple[Example, ...] = Field(description="right before, wrong in this arm")


class Changes(Value):
    """Answers that differ between two arms, paired by item."""

    n: int = Field(description="number of items")
    helped: int = Field(description="items wrong in the other arm and right in this one")
    harmed: int = Field(description="items right in the other arm and wrong in this one")
    mcnemar_p: float = Field(description="exact two-sided McNemar p")


class ChangesByHarm(Changes):
    """Answers that differ between two arms, in all and by harm of a wrong answer."""

    by_harm: dict[str, Changes] = Field(description="the same by harm, the least first; empty without harms")


class PairedDifference(Value):
    """One arm minus another, paired by item."""

    accuracy_difference: Metric | None = Field(description="accuracy minus that of the other arm")
    balanced_accuracy_difference: Metric | None = Field(description="the same of balanced accuracy")
    false_acceptance_difference: Metric | None = Field(None, description="the same of false acceptance")
    mcnemar_p: float = Field(description="exact two-sided McNemar p")
    helped: int = Field(description="items wrong in the other arm and right in this one")
    harmed: int = Field(description="items right in the other arm and wrong in this one")
    by_harm: dict[str, Changes] = Field({}, description="the last three by harm of a wrong answer")
    examples: Examples = Field(description="some of these items")


class ModelComparison(PairedDifference):
    """The first model, steered, minus another model, unsteered, on the same test items."""

    general: str = Field(description="name of the first model")
    arm: str = Field(description="the steered arm of the first model")
    specialised: str = Field(description="name of the other model")


class DrawnChanges(Value):
    """Answers that differ between each draw of a control and the unsteered arm."""

    helped: DrawnMetric = Field(description="items wrong unsteered and right in the draw")
    harmed: DrawnMetric = Field(description="items right unsteered and wrong in the draw")


class DrawnDifference(Value):
    """The draws of a control minus the unsteered arm."""

    accuracy_difference: DrawnMetric | None = Field(description="accuracy minus that of the unsteered arm")
    balanced_accuracy_difference: DrawnMetric | None = Field(description="the same of balanced accuracy")
    changes: DrawnChanges | None = Field(None, description="answers that differ")
    by_harm: dict[str, DrawnChanges] = Field({}, description="the same by harm of a wrong answer")


class WordingFreePart(Value):
    """The part of the test set where wording gives nothing away."""

    kind: Literal["twins", "matched"] | None = Field(description="what it is made of; null: there is none")
    n: int = Field(description="number of pairs of twins, or of matched items")
    valid: bool = Field(description="whether wording is ruled out on it")
    reason: str | None = Field(None, description="why it is not valid, or why there is none")
    notice: str | None = Field(None, description="what could not be checked about it")
    fitted_on: int | None = Field(None, description="statements that the readers of wording were fitted on")
    residual_auc: dict[str, float] = Field(description="AUROC of each reader of wording on the part")
    read_right: dict[str, Metric] = Field({}, description="share of twins each reader of wording ranks right")


class WordingFreeGain(Value):
    """What steering adds on the wording-free part, paired with the unsteered arm."""

    accuracy_difference: Metric | None = Field(description="accuracy minus that of the unsteered arm")
    excess_difference: Metric | None = Field(None, description="excess minus that of the unsteered arm")


class WordingFreeFigures(WordingFreePart):
    """One arm on the wording-free part."""

    accuracy: Metric | None = Field(description="share of twins ranked right, or balanced accuracy")
    auroc: Metric | None = Field(description="AUROC on the items of the part")
    vs_unsteered: WordingFreeGain | None = Field(description="paired differences from the unsteered arm")
    association: Metric | None = Field(None, description="share of FALSE pairs with the original preferred")
    excess: Metric | None = Field(None, description="share of twins ranked right minus `association`")
    excess_same_kinds: Metric | None = Field(None, description="the same for the control's kinds of word")
    excess_valid: bool | None = Field(None, description="whether plausibility can be told from truth by it")
    reasons: dict[str, str] = Field({}, description="for each figure that is null, why")

    @property
    def judged_excess(self) -> Metric | None:
        """The excess that counts: that of twins of the control's kinds of word where these are not all twins."""
        return self.excess_same_kinds or self.excess

    @property
    def excess_gained(self) -> Metric | None:
        """What steering adds to that excess."""
        return None if self.vs_unsteered is None else self.vs_unsteered.excess_difference


class WordingFreeDraws(WordingFreePart):
    """The draws of a control on the wording-free part."""

    accuracy: DrawnMetric | None = Field(description="share of twins ranked right, or balanced accuracy")


class Breakdown(Value):
    """One arm on the items of one category, or of one difficulty."""

    n: int = Field(description="number of items")
    accuracy: Metric | None = Field(description="share of items answered right")
    balanced_accuracy: Metric | None = Field(description="mean of the shares right of TRUE and FALSE items")
    false_acceptance_rate: Metric | None = Field(description="share of FALSE items answered TRUE")
    reasons: dict[str, str] = Field({}, description="for each figure that is null, why")


class ArmResult(ArmMetrics[Metric]):
    """Every figure of one arm on the test items."""

    safety_error_rate: SafetyErrorRate | None = Field(description="wrong answers of harm moderate or worse")
    factual_consistency: Metric | None = Field(None, description="null until a verifier is validated")
    answer_word_rate: Metric | None = Field(description="share of items whose next token is an answer word")
    calibration: CalibrationFigures = Field(description="how far the bare scores can be trusted")
    calibrated: CalibratedFigures | None = Field(None, description="the same once they are mapped")
    confidences: dict[str, RiskCurve] = Field(
        {}, description="by `score` (mapped), and by `probe` (its own, in this arm's answers)"
    )
    abstention: AbstentionFigures | None = Field(None, description="what trusting only sure answers gives")
    by_category: dict[str, Breakdown] = Field(description="figures by category")
    by_difficulty: dict[str, Breakdown] = Field(description="figures by difficulty")
    vs_unsteered: PairedDifference | None = Field(description="paired differences from the unsteered arm")
    matched: WordingFreeFigures = Field(description="figures on the wording-free part")
    reasons: dict[str, str] = Field(description="for each figure that is null, why")


class ControlResult(ArmMetrics[DrawnMetric]):
    """Every figure of one control over its draws."""

    of: str = Field(description="the arm that it is the control of")
    vs_unsteered: DrawnDifference | None = Field(None, description="differences from the unsteered arm")
    matched: WordingFreeDraws = Field(description="figures on the wording-free part")
    reasons: dict[str, str] = Field(description="for each figure that is null, why")


class Judgement(Value):
    """The verdict on one arm and the differences it rests on."""

    arm: str = Field(description="the arm that is judged")
    verdict: Verdict = Field(description="the verdict by name")
    helps: bool | None = Field(description="true, false: not shown to help, null: nobody can say")
    failed_controls: tuple[str, ...] = Field(description="controls that it does not beat")
    differences: dict[str, Metric | None] = Field(
        description="the arm minus each control in balanced accuracy; `matched_...` on the wording-free part; "
        "`association`, `association_gain`: excess on twins, and excess minus that of the unsteered arm"
    )
    p: float = Field(description="the largest bootstrap p of these comparisons")
    p_holm: float | None = Field(None, description="p by Holm's correction, for arms that were not declared")
    reason: str | None = Field(None, description="why nobody can say, as the end of a sentence")

    @model_validator(mode="after")
    def _one_verdict(self) -> "Judgement":
        if self.helps is not self.verdict.helps:
            raise ValueError(f"helps is {self.helps} and the verdict {self.verdict}")
        return self


class TriedPrompt(Value):
    """One candidate prompt on the training part, unsteered."""

    prompt: str = Field(description="name of the prompt")
    auroc: float = Field(description="AUROC")
    accuracy: float = Field(description="accuracy")
    predicted_true_rate: float = Field(description="share of statements answered TRUE")
    answer_word_rate: float | None = Field(description="share whose next token is an answer word")
    n: int = Field(description="number of training statements")


class TriedStrength(Value):
    """One strength of the gated arm, cross-fitted on the training part."""

    strength: float = Field(description="strength, in logits")
    accuracy: float = Field(description="accuracy")
    rank_quality: float = Field(description="share of twins ranked right where fitted on twins, else AUROC")
    answer_word_rate: float = Field(description="share whose next token is an answer word")


class PaperChoices(Value):
    """What the vectors of the paper's arm were made of."""

    layer: int = Field(description="decoder layer, 0-based")
    alpha: float = Field(description="strength, as a multiple of the vector")
    examples: dict[str, int] = Field(description="training examples per category; `all`: of all together")
    norms: dict[str, dict[str, float]] = Field(description="length of each vector, by reading and category")
    refused: dict[str, str] = Field(description="readings that gave no vector, and why")


class FineTuning(Value):
    """What fine-tuning took."""

    training_seconds: float = Field(description="wall-clock seconds")
    trained_parameters: int = Field(description="number of trained parameters")
    prompt: str = Field(description="name of the prompt")


class Choices(Value):
    """Everything that was chosen and fitted, on the training part alone."""

    prompt: str = Field(description="prompt of every arm but `prompt_only`")
    prompt_given: bool = Field(description="whether it was given rather than chosen")
    prompt_only: str | None = Field(description="prompt of the arm `prompt_only`")
    prompts_tried: tuple[TriedPrompt, ...] = Field(description="the candidates")
    prompts_refused: dict[str, str] = Field(description="candidates that this model cannot use, and why")
    layer: int = Field(description="layer of the gated arm: decoder layer, 0-based")
    strength: float = Field(description="strength of the gated arm, in logits")
    offset: float = Field(description="median unsteered score, which the gated arm takes off")
    fitted_on: str = Field(description="what the gate was fitted on: twins or statements")
    layers_tried: dict[int, float] = Field(description="rank quality of the cross-fitted gate per layer")
    strengths_tried: tuple[TriedStrength, ...] = Field(description="the strengths")
    prior_threshold: float = Field(description="threshold of the arm `prior`")
    calibrations: dict[str, Calibration] = Field({}, description="map from score to probability, by arm")
    abstention_rules: dict[str, AbstentionRule] = Field({}, description="when an answer is trusted, by arm")
    uncalibrated: dict[str, str] = Field({}, description="arms that no map could be fitted for, and why")
    paper: PaperChoices = Field(description="the paper's vectors")
    lexical_reader: str = Field(description="the reader of wording behind the arm `lexical`")
    fine_tuned: FineTuning | None = Field(None, description="the arm `fine_tuned`, where it was run")


Grid = tuple[tuple[float | None, ...], ...]


class SettingMap(Value):
    """Figures of layers x strengths on statements of the training part: one row per layer, one column per strength."""

    strategy: str = Field(description="strategy that steers")
    reading: str = Field(description="reading of the contrast pairs")
    fitted_on: str = Field(description="twins or statements")
    layers: tuple[int, ...] = Field(description="layers, one per row")
    strengths: tuple[float, ...] = Field(description="strengths, one per column")
    n_train: int = Field(description="statements fitted on")
    n_measured: int = Field(description="statements measured on")
    note: str = Field(description="how it was made")
    unsteered: dict[str, float | None] = Field(description="the same figures without steering")
    accuracy: Grid = Field(description="accuracy")
    balanced_accuracy: Grid = Field(description="balanced accuracy")
    auroc: Grid = Field(description="AUROC")
    predicted_true_rate: Grid = Field(description="share answered TRUE")
    false_acceptance_rate: Grid = Field(description="share of FALSE statements answered TRUE")
    answer_word_rate: Grid = Field(description="share whose next token is an answer word")
    seconds: dict[str, float] = Field(description="wall-clock seconds per step")
    from_cached_states: bool = Field(description="whether it resumed from cached hidden states")


class PaperSettings(Value):
    """Settings of the paper's arm."""

    examples: int = Field(description="most training examples per category")
    alpha: float = Field(description="strength")
    full_trace: bool = Field(description="whether the reading `full_trace` is made")


class RunSettings(Value):
    """What was asked for."""

    declared: str = Field(description="the arm that is judged")
    extra: tuple[str, ...] = Field(description="arms that run only when named")
    fit_on: str = Field(description="auto, twins or statements")
    prompt: str = Field(description="the given prompt; empty: the best ones are chosen")
    seed: int = Field(description="seed")
    draws: int = Field(description="draws of each random and shuffled control")
    batch_rows: int = Field(description="rows per batch")
    paper: PaperSettings | None = Field(None, description="in version 1; since then `choices.paper` tells it")
    sample: int | None = Field(description="statements drawn; null: all")
    split: tuple[int, int] | None = Field(description="sizes of the training and the test part")
    preset: str | None = Field(None, description="the preset")
    category: str = Field("file", description="where categories come from: file, or auto (routed)")
    max_error: float | None = Field(None, description="largest share of wrong answers among trusted ones")


class Environment(Value):
    """What the last digit of a figure depends on besides the settings."""

    python: str = Field(description="version of Python")
    machine: str = Field(description="kind of processor")
    torch: str = Field(description="version of torch")
    transformers: str = Field(description="version of transformers")
    numpy: str = Field(description="version of numpy")
    threads: int = Field(description="threads of torch")


class Figures(Value):
    """All figures of one model on the test items, and the verdict on the declared arm."""

    model: str = Field(description="name of the model")
    model_sha256: str = Field(description="hash of its weights")
    device: str = Field(description="device and number type")
    helps: bool | None = Field(description="verdict on the declared arm, as `judged.helps`")
    failed_controls: tuple[str, ...] = Field(description="controls that the declared arm does not beat")
    conclusion: str = Field(description="the verdict and false acceptance before and after, in one sentence")
    judged: Judgement = Field(description="verdict on the declared arm, with its differences")
    exploratory: dict[str, Judgement] = Field(description="verdicts on the others, with Holm's correction")
    arms: dict[str, ArmResult | ControlResult] = Field(description="figures of every arm and control by name")
    matched: WordingFreePart = Field(description="the wording-free part of the test set")
    near_ties: dict[str, int] = Field(description="answers per arm that another batch size may change")

    def arm(self, name: str) -> ArmResult | None:
        """Return an arm by name; None where it was not run, and for controls."""
        arm = self.arms.get(name)
        return arm if isinstance(arm, ArmResult) else None

    def controls_of(self, name: str) -> dict[str, ControlResult]:
        """Return the controls of an arm by name."""
        return {
            control: result
            for control, result in self.arms.items()
            if isinstance(result, ControlResult) and result.of == name
        }

    def judgement(self, name: str) -> Judgement | None:
        """Return the verdict on an arm, declared or not."""
        return self.judged if name == self.judged.arm else self.exploratory.get(name)


class DoseFigures(Value):
    """How far an arm's steering moves a state, as a share of that state's own length (see `medx_core/steering/dose.py`)."""

    largest: float = Field(description="largest dose of any test item")
    median: float = Field(description="median of the test items that it steers")
    values: tuple[float, ...] = Field(
        (), description="that of every test item that it steers, the largest first"
    )


class ExcludedStatement(Value):
    """One statement that the model could not be asked, so that it is left out for all arms alike."""

    row: int = Field(description="row of the data file, the first below the header being 1")
    part: str = Field(description="the part that it was drawn for: train, test or association")
    reason: str = Field(description="why the model could not be asked it")


class ModelResult(Figures):
    """The figures of one model with what was chosen for it."""

    choices: Choices = Field(description="what was chosen and fitted on the training part")
    sweep: SettingMap | None = Field(description="map of layers and strengths, where `gated` is declared")
    seconds: float = Field(description="wall-clock seconds")
    recipe_refused: str = Field("", description="why the recipe in use is no arm, where it could not answer")
    doses: dict[str, DoseFigures] = Field({}, description="how far each arm's steering moves states, by arm")
    excluded: tuple[ExcludedStatement, ...] = Field(
        (), description="statements that the model could not be asked, left out for all arms alike"
    )


class Origin(Value):
    """What all figures of an evaluation come from."""

    schema_version: Literal[2] = Field(SCHEMA_VERSION, description="version of this schema")
    medx_version: str = Field(description="version of MedX that made the figures")
    data_sha256: str = Field(description="hash of the data file")
    seed: int = Field(description="seed of draw, split, controls and intervals")
    n_test: int = Field(description="statements of the test part")
    n_association: int = Field(0, description="swapped FALSE statements: the association control")
    comparisons: tuple[ModelComparison, ...] = Field((), description="the first model against each other one")


class EvaluationResult(ModelResult, Origin):
    """One evaluation: the first model, which is judged, at the top; the others under `models`."""

    data: str = Field("", description="name of the data")
    n_train: int = Field(description="statements of the training part")
    n_outside: int = Field(0, description="labelled rows neither fitted on nor tested")
    notes: dict[str, int] = Field(description="what was met when reading the data, counted")
    settings: RunSettings = Field(description="what was asked for")
    environment: Environment = Field(description="versions and threads")
    models: dict[str, ModelResult] = Field({}, description="the other models by name")
    recipes: dict[str, str] = Field({}, description="the arm that measured each recipe, by the recipe's id")


class Recheck(Figures, Origin):
    """All figures made again from an items file; what is not on the test items is not there."""

    models: dict[str, Figures] = Field({}, description="the other models by name")
    reasons: dict[str, str] = Field(description="parts of an evaluation's result that are missing, and why")


def read_result(data: object, name: str = "This result") -> EvaluationResult:
    """Read the JSON of an evaluation; `name` is what a refusal calls it.

    Results of version 1, which did not state a version, are read as well.

    Raises:
        BadInput: it is not the result of an evaluation, or was written by a newer MedX.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("arms"), Mapping):
        raise BadInput(f"{name} is not what `medx evaluate --json` writes: it has no arms.")
    version = data.get("schema_version", 1)
    if version not in (1, SCHEMA_VERSION):
        raise BadInput(
            f"{name} has version {version} of the result format; this MedX reads versions 1 and {SCHEMA_VERSION}."
        )
    try:
        return EvaluationResult.model_validate(_from_version_1(data) if version == 1 else data)
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{name} is not a result of `medx evaluate`: {_first_problem(error)}.") from error


def _first_problem(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "parts of it are missing"
    first = error.errors()[0]
    return f"at {'.'.join(map(str, first['loc']))}: {first['msg'][:1].lower()}{first['msg'][1:]}"


_VERDICTS_OF_VERSION_1 = {
    "the declared arm": Verdict.NOT_RUN,
    "the test set holds": Verdict.ONE_ANSWER_ONLY,
    "needed to judge it": Verdict.CONTROLS_NOT_RUN,
    "wording cannot be": Verdict.WORDING_NOT_RULED_OUT,
    "plausibility cannot": Verdict.PLAUSIBILITY_NOT_RULED_OUT,
}
"""Version 1 told why a verdict is open by a sentence alone."""


def _from_version_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """Add what version 1 left out of a whole result, or of one of its `models`: verdicts by name."""
    added: dict[str, Any] = {
        "judged": {**data["judged"], "verdict": _verdict_of_version_1(data["judged"])},
        "exploratory": {
            name: {"arm": name, **judged, "verdict": _verdict_of_version_1(judged)}
            for name, judged in data["exploratory"].items()
        },
        "sweep": data.get("sweep") or None,
    }
    if "models" in data:
        added["models"] = {name: _from_version_1(model) for name, model in data["models"].items()}
    return {**data, **added}


def _verdict_of_version_1(judged: Mapping[str, Any]) -> Verdict:
    if judged["helps"] is True:
        return Verdict.HELPS
    if judged["helps"] is False:
        return Verdict.CONTROL_NOT_BEATEN if judged["failed_controls"] else Verdict.LUCK_AMONG_MANY
    reason = str(judged.get("reason"))
    known = (verdict for start, verdict in _VERDICTS_OF_VERSION_1.items() if reason.startswith(start))
    return next(known, Verdict.FITTED_ON_TEST_ITEMS)
