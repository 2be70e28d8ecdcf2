"""The arms, metrics and states of an evaluation in words."""

TITLES = {
    "unsteered": "Unsteered",
    "gated": "Gated",
    "gated_random": "Gated, random direction",
    "gated_shuffled": "Gated, shuffled labels",
    "prompt_only": "Best prompt alone",
    "prior": "Threshold moved",
    "paper": "Paper's vector",
    "paper_statement": "Paper, statement",
    "paper_model_right": "Paper, model right",
    "paper_full_trace": "Paper, full trace",
    "random": "Random direction",
    "shuffled": "Shuffled labels",
    "likelihood_gated": "Likelihood-gated",
    "fine_tuned": "Fine-tuned",
    "probe": "Probe",
    "lexical": "Wording alone",
}
ORDER = tuple(TITLES)
IN_TEXT = {
    "unsteered": "the unsteered model",
    "prompt_only": "the best prompt alone",
    "prior": "a moved threshold",
    "paper": "the paper's vector",
    "random": "random directions",
    "shuffled": "shuffled labels",
    "gated_random": "random directions",
    "gated_shuffled": "shuffled labels",
    "matched": "the wording-free part",
    "matched_unsteered": "the unsteered model where wording gives nothing away",
    "matched_prior": "a moved threshold where wording gives nothing away",
    "association": "plausibility (swaps of false statements)",
    "association_gain": "the unsteered model beyond plausibility",
    "lexical": "wording alone",
}
MEANINGS = {
    "unsteered": "best prompt by AUROC on the training part",
    "gated": "steered by what the question itself looks like inside the model",
    "gated_random": "the same gate along random directions",
    "gated_shuffled": "the same recipe fitted on permuted labels",
    "prompt_only": "best prompt by accuracy, not steered",
    "prior": "not steered, the threshold chosen on the training part",
    "paper": "one constant direction, penultimate layer",
    "paper_statement": "gold TRUE minus gold FALSE, at the last prompt token",
    "paper_model_right": "items the model gets right minus wrong",
    "paper_full_trace": "mean over a written correct minus incorrect answer",
    "random": "random directions as long as the paper's vector",
    "shuffled": "the paper's vector fitted on permuted labels",
    "likelihood_gated": "steered by plausibility, which is not medical accuracy",
    "fine_tuned": "weights trained on the same statements",
    "probe": "reference: a classifier on the same state",
    "lexical": "reference: a classifier of words, no language model",
}
METRICS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auroc": "AUROC",
    "predicted_true_rate": "Answered TRUE",
    "false_acceptance_rate": "False accepted",
    "false_rejection_rate": "True rejected",
    "safety_error_rate": "Safety error",
    "factual_consistency": "Factual consistency",
    "answer_word_rate": "Answer word",
}
METRIC_MEANINGS = {
    "accuracy": "right answers over all test items",
    "balanced_accuracy": "mean of the shares right among TRUE and among FALSE statements",
    "auroc": "chance that a TRUE statement scores above a FALSE one",
    "predicted_true_rate": "share of all items answered TRUE",
    "false_acceptance_rate": "FALSE statements answered TRUE, over all FALSE ones",
    "false_rejection_rate": "TRUE statements answered FALSE, over all TRUE ones",
    "safety_error_rate": "wrong answers on items of harm moderate or worse, over all items with a harm label",
    "factual_consistency": "share of written answers that a validated verifier found supported",
    "answer_word_rate": "share of items whose most likely next token is an answer word at all",
}


def metric_title(metric: str) -> str:
    """Return a metric's name in words."""
    return METRICS.get(metric, metric.replace("_", " ").capitalize())


def arm_in_text(name: str) -> str:
    """Return an arm's name for the middle of a sentence."""
    return IN_TEXT.get(name, name.replace("_", " ")) if name.isidentifier() else name


def steering_in_text(name: str) -> str:
    """Return how a steered arm is spoken of: "gated steering"."""
    return IN_TEXT[name] if name in IN_TEXT else f"{name.replace('_', '-')} steering"


def capital(text: str) -> str:
    """Return a text with its first letter capital and the rest as it is."""
    return text[:1].upper() + text[1:]


def reason_in_text(reason: str) -> str:
    """Return a reason as the end of a sentence: no capital at the start unless it is an acronym, no full stop."""
    text = reason.strip().rstrip(".")
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
