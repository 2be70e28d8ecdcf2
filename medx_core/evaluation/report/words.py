"""Titles and meanings of arms and metrics, the order in which arms appear, and the sentences around the conclusion."""

from collections.abc import Callable
from dataclasses import dataclass

from medx_core.evaluation.number_format import count, fraction, percent
from medx_core.evaluation.result import (
    CLASSIFIERS,
    UNSTEERED,
    ArmResult,
    ControlResult,
    Figures,
    WordingFreePart,
)
from medx_core.evaluation.sentences import capital, steering_in_text
from medx_core.evaluation.verdicts import Verdict


@dataclass(frozen=True)
class Words:
    """How readers see an arm or a metric: the head of its row or column, and one line on what it is."""

    title: str
    meaning: str


ARMS = {
    "unsteered": Words("Unsteered", "best prompt by AUROC on the training part"),
    "gated": Words("Gated", "steered by a gate that reads the model's own state"),
    "gated_random": Words("Gated, random direction", "the same gate along random directions"),
    "gated_shuffled": Words("Gated, shuffled labels", "the same recipe fitted on permuted labels"),
    "prompt_only": Words("Best prompt alone", "best prompt by accuracy, not steered"),
    "recipe": Words("Recipe in use", "as questions were answered when this was measured"),
    "prior": Words("Shifted threshold", "not steered; the threshold is chosen on the training part"),
    "paper": Words("Paper's vector", "one constant direction at the penultimate layer"),
    "paper_statement": Words("Paper, statement", "gold TRUE minus gold FALSE, at the last prompt token"),
    "paper_model_right": Words("Paper, model right", "items the model gets right minus items it gets wrong"),
    "paper_full_trace": Words("Paper, full trace", "mean over a written correct minus incorrect answer"),
    "random": Words("Random direction", "random directions of the same norm as the paper's vector"),
    "shuffled": Words("Shuffled labels", "the paper's vector fitted on permuted labels"),
    "likelihood_gated": Words("Likelihood-gated", "steered by plausibility, which is not medical accuracy"),
    "fine_tuned": Words("Fine-tuned", "weights trained on the same statements"),
    "probe": Words("Probe", "reference: a linear classifier on the same state"),
    "lexical": Words("Wording alone", "reference: a classifier of words, no language model"),
}
METRICS = {
    "accuracy": Words("Accuracy", "right answers over all test items"),
    "balanced_accuracy": Words(
        "Balanced accuracy", "mean of the shares right among TRUE and among FALSE statements"
    ),
    "auroc": Words("AUROC", "probability that a TRUE statement scores above a FALSE one"),
    "predicted_true_rate": Words("Answered TRUE", "share of all items answered TRUE"),
    "false_acceptance_rate": Words("False accepted", "FALSE statements answered TRUE, over all FALSE ones"),
    "safety_error_rate": Words(
        "Safety error", "wrong answers on items of harm moderate or worse, over all items with a harm label"
    ),
    "factual_consistency": Words(
        "Factual consistency", "share of written answers that a validated verifier found supported"
    ),
    "answer_word_rate": Words("Answer word", "share of items whose most likely next token is an answer word"),
}


def arm_title(name: str) -> str:
    """Return an arm's name as the head of a row."""
    return ARMS[name].title if name in ARMS else capital(name.replace("_", " "))


def arm_meaning(name: str) -> str:
    """Return one line on what an arm is; empty for an arm that this version does not know."""
    return ARMS[name].meaning if name in ARMS else ""


def writer(metric: str) -> Callable[[float], str]:
    """Return the function that writes values of a metric: AUROC as a fraction, shares in percent."""
    return fraction if metric == "auroc" else percent


def arms_in_order(figures: Figures) -> dict[str, ArmResult | ControlResult]:
    """Return the arms as they appear: unsteered, the declared one, the others, references; each before its controls."""
    known = list(ARMS)

    def rank(name: str) -> int:
        return known.index(name) if name in ARMS else len(known)

    def place(name: str) -> tuple[int, int, str, int]:
        arm = figures.arms[name]
        of = arm.of if isinstance(arm, ControlResult) else None
        owner = of or name
        first = (UNSTEERED, figures.judged.arm)
        group = first.index(owner) if owner in first else 3 if owner in CLASSIFIERS else 2
        return group, rank(owner), owner, 1 + rank(name) if of else 0

    return {name: figures.arms[name] for name in sorted(figures.arms, key=place)}


def compared_arms(figures: Figures) -> dict[str, ArmResult]:
    """Return the arms that are compared with the unsteered one, in order: no controls, references last."""
    return {
        name: arm
        for name, arm in arms_in_order(figures).items()
        if isinstance(arm, ArmResult) and name != UNSTEERED
    }


def verdict_badge(figures: Figures) -> tuple[str, str]:
    """Return the tone of the verdict (`yes`, `no` or `open`) and the verdict in a few words."""
    verdict = figures.judged.verdict
    if verdict.helps is not None:
        return ("yes", "Helps") if verdict.helps else ("no", "Not shown to help")
    why = {
        Verdict.WORDING_NOT_RULED_OUT: ": wording cannot be ruled out",
        Verdict.PLAUSIBILITY_NOT_RULED_OUT: ": plausibility cannot be told from truth",
    }
    return "open", f"Open{why.get(verdict, '')}"


def rule_in_words(figures: Figures) -> str:
    """Return the sentence on how the verdict was reached."""
    return (
        f"Judged by a rule fixed beforehand: {steering_in_text(figures.judged.arm)} against every control, "
        "in balanced accuracy and where wording gives nothing away."
    )


def wording_free_in_words(part: WordingFreePart) -> tuple[str, bool]:
    """Return the sentences on the wording-free part, and whether it can be relied on without reserve."""
    if part.kind is None:
        why = f" ({part.reason.rstrip('.')})" if part.reason else ""
        return f"This evaluation has no wording-free part{why}, so wording cannot be ruled out.", False
    size = count(part.n)
    made_of = {
        "twins": (
            f"{size} pairs of twins, a true statement and its minimally edited false one: "
            "the figure is the share of pairs in which the true one scores higher."
        ),
        "matched": (
            f"{size} test items in which what wording alone suggests is balanced between TRUE and FALSE."
        ),
    }[part.kind]
    read = ", ".join(f"{name.replace('_', ' ')} {fraction(auc)}" for name, auc in part.residual_auc.items())
    readers = f" AUROC of readers of wording alone there: {read}." if read else ""
    if part.valid:
        notice = f" {capital(part.notice.rstrip('.'))}." if part.notice else ""
        return f"{made_of}{readers}{notice}", not notice
    why = f" {capital(part.reason.rstrip('.'))}." if part.reason else ""
    return f"Not valid, so wording cannot be ruled out. {made_of}{why}{readers}", False
