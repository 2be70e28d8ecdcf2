"""Results of evaluations that never took place: every figure is made up, in the schema that `medx evaluate` writes."""

import random
from collections.abc import Mapping
from typing import Any

from medx_core.evaluation.request import EvaluationRequest
from medx_core.storage.runs import Run, RunStore

N_TEST, N_TRUE = 1077, 652
NO_VERIFIER = "no verifier has been found fit"
TWINS = {"kind": "twins", "n": 652, "valid": True, "residual_auc": {"surface": 0.503, "words": 0.5}}
STRANGE = 'The <b>femoral</b> artery & "vein" lie in <script>alert(1)</script> the {{ thigh }}.'
ARMS = {  # accuracy, balanced, AUROC, answered TRUE, false accepted, difference from unsteered, wording-free
    "unsteered": (0.528, 0.587, 0.674, 0.241, 0.131, 0.0, 0.515),
    "prompt_only": (0.613, 0.604, 0.695, 0.368, 0.254, 0.085, 0.521),
    "prior": (0.651, 0.605, 0.674, 0.742, 0.618, 0.123, 0.515),
    "paper": (0.592, 0.615, 0.671, 0.413, 0.271, 0.064, 0.509),
    "gated": (0.766, 0.744, 0.845, 0.627, 0.362, 0.238, 0.614),
    "likelihood_gated": (0.547, 0.566, 0.591, 0.472, 0.388, 0.019, 0.567),
    "probe": (0.775, 0.752, 0.857, 0.631, 0.349, 0.247, 0.593),
    "lexical": (0.753, 0.733, 0.839, 0.642, 0.371, 0.225, 0.502),
}
CONTROLS = {  # of, accuracy of the median draw, spread
    "random": ("paper", 0.514, 0.085),
    "shuffled": ("paper", 0.541, 0.031),
    "gated_random": ("gated", 0.489, 0.112),
    "gated_shuffled": ("gated", 0.556, 0.028),
}


def metric(value: float, half: float = 0.029, n: int = N_TEST) -> dict[str, Any]:
    """A metric with an interval around it."""
    return {"value": value, "low": value - half, "high": value + half * 0.97, "n": n}


def synthetic_result() -> dict[str, Any]:
    """A whole evaluation with a valid wording-free part made of twins, and a sweep."""
    return {
        "schema_version": 2,
        "medx_version": "0.1.0",
        "model": "synthetic/Invented-135M",
        "model_sha256": "a5" * 32,
        "device": "cpu float32",
        "data": "invented_statements.csv",
        "data_sha256": "0b1c" * 16,
        "seed": 3,
        "n_train": 861,
        "n_test": N_TEST,
        "n_association": 1364,
        "n_outside": 76,
        "arms": {**{name: _arm(name) for name in ARMS}, **{name: _control(name) for name in CONTROLS}},
        "choices": _choices(),
        "matched": TWINS,
        "sweep": _sweep(),
        "helps": False,
        "failed_controls": ["gated_shuffled", "matched_prior"],
        "judged": {
            "arm": "gated",
            "verdict": "control_not_beaten",
            "helps": False,
            "failed_controls": ["gated_shuffled", "matched_prior"],
            "differences": {
                "unsteered": metric(0.1571, 0.0361), "prior": metric(0.1387, 0.0352),
                "gated_shuffled": metric(0.0112, 0.0341), "matched_prior": metric(0.0233, 0.0377, 652),
            },
            "p": 0.2619,
        },
        "exploratory": {
            "paper": {
                "arm": "paper", "verdict": "control_not_beaten", "helps": False,
                "failed_controls": ["prior", "random"], "differences": {}, "p": 0.3857, "p_holm": 0.7713,
            },
            "likelihood_gated": {
                "arm": "likelihood_gated", "verdict": "helps", "helps": True,
                "failed_controls": [], "differences": {}, "p": 0.0211, "p_holm": 0.0419,
            },
        },
        "comparisons": [
            {"general": "synthetic/Invented-135M", "arm": "gated", "specialised": "synthetic/Invented-Med",
             "accuracy_difference": metric(0.0469, 0.0312), "balanced_accuracy_difference": metric(0.0391, 0.0333),
             "mcnemar_p": 0.0071, "helped": 164, "harmed": 113, "examples": {"helped": [], "harmed": []}},
        ],
        "models": {"synthetic/Invented-Med": _other_model()},
        "conclusion": (
            "False statements are accepted more often (13.1 % before, 36.2 % after): gated steering raises accuracy by "
            "23.8 points on all 1,077 items, most of which wording alone can reach, and ranks the true twin first in "
            "61.4 % of 652 pairs."
        ),
        "settings": {
            "declared": "gated", "extra": [], "fit_on": "auto", "prompt": "", "seed": 3, "draws": 20,
            "batch_rows": 32, "paper": {"examples": 200, "alpha": 1.0, "full_trace": False}, "sample": None, "split": None,
        },
        "environment": {
            "python": "3.12.1", "machine": "x86_64", "torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.4.0",
            "threads": 2,
        },
        "notes": {"rows": 2014, "repaired": 37, "duplicates": 11, "near_copies": 64, "contradictions": 2},
        "seconds": 245.75,
        "near_ties": {"unsteered": 6, "gated": 9},
    }  # fmt: skip


def bare_result() -> dict[str, Any]:
    """The least an evaluation says: two arms, no wording-free part, no sweep, no calibration, no examples."""
    result = synthetic_result()
    part = {"kind": None, "n": 0, "valid": False, "residual_auc": {}, "reason": "there are no twins"}
    arms = {"unsteered": _bare_arm(metric(0.542, 0.066, 216)), "gated": _bare_arm(metric(0.764, 0.06, 216))}
    arms["gated"]["reasons"] = {"auroc": "Every score is the same."}
    for arm in arms.values():
        arm["matched"] = part | {"accuracy": None, "auroc": None, "vs_unsteered": None}
    open_verdict = {
        "arm": "gated", "verdict": "wording_not_ruled_out", "helps": None, "failed_controls": [],
        "differences": {}, "p": 1.0, "reason": "wording cannot be ruled out: there are no twins",
    }  # fmt: skip
    return result | {
        "n_test": 216,
        "arms": arms,
        "matched": part,
        "choices": _choices() | {"layers_tried": {}, "prompts_tried": [], "strengths_tried": []},
        "sweep": None,
        "judged": open_verdict,
        "exploratory": {},
        "comparisons": [],
        "models": {},
        "helps": None,
        "failed_controls": [],
        "conclusion": "Gated steering beats every control, but wording cannot be ruled out.",
        "near_ties": {},
    }


def _bare_arm(accuracy: dict[str, Any]) -> dict[str, Any]:
    metrics = (
        "balanced_accuracy", "auroc", "predicted_true_rate", "false_acceptance_rate", "safety_error_rate",
        "factual_consistency", "answer_word_rate", "vs_unsteered",
    )  # fmt: skip
    return {
        "accuracy": accuracy,
        **dict.fromkeys(metrics),
        "calibration": {"brier": None, "ece": None, "bins": [], "risk_coverage": []},
        "by_category": {},
        "by_difficulty": {},
        "reasons": {},
    }


def _other_model() -> dict[str, Any]:
    """The figures of a second model, unsteered alone."""
    judged = {
        "arm": "gated", "verdict": "not_run", "helps": None, "failed_controls": [], "differences": {}, "p": 1.0,
        "reason": "the declared arm gated was not run",
    }  # fmt: skip
    return {
        "model": "synthetic/Invented-Med",
        "model_sha256": "c3" * 32,
        "device": "cpu float32",
        "helps": None,
        "failed_controls": [],
        "conclusion": "gated cannot be said to help the invented specialist.",
        "judged": judged,
        "exploratory": {},
        "arms": {"unsteered": _arm("unsteered") | {"accuracy": metric(0.7191)}},
        "matched": TWINS,
        "near_ties": {},
        "choices": _choices(),
        "sweep": None,
        "seconds": 99.5,
    }


def _choices() -> dict[str, Any]:
    return {
        "prompt": "verdict-statement-yes-no-4shot-v1",
        "prompt_given": False,
        "prompt_only": "verdict-statement-yes-no-8shot-v1",
        "layer": 21,
        "strength": 4.0,
        "offset": -0.3137,
        "fitted_on": "twins",
        "layers_tried": {str(layer): 0.6 + 0.0007 * layer * (29 - layer) for layer in range(10, 29)},
        "prompts_tried": [
            {"prompt": f"invented-{words}-{shots}shot", "auroc": auroc, "accuracy": accuracy,
             "predicted_true_rate": 0.4831, "answer_word_rate": 0.9977, "n": 861}
            for words, shots, auroc, accuracy in (
                ("yes-no", 4, 0.7131, 0.5597), ("yes-no", 8, 0.6952, 0.6132), ("true-false", 4, 0.4873, 0.4161),
            )
        ],
        "prompts_refused": {},
        "strengths_tried": [
            {"strength": strength, "accuracy": accuracy, "rank_quality": 0.6149, "answer_word_rate": 0.9953}
            for strength, accuracy in ((2.0, 0.7113), (4.0, 0.7487))
        ],
        "prior_threshold": -0.4129,
        "paper": {"layer": 28, "alpha": 1.0, "examples": {"triage": 200}, "norms": {}, "refused": {}},
        "lexical_reader": "words",
    }  # fmt: skip


def _arm(name: str) -> dict[str, Any]:
    accuracy, balanced, auroc, said_true, accepted, difference, twins = ARMS[name]
    arm: dict[str, Any] = {
        "accuracy": metric(accuracy),
        "balanced_accuracy": metric(balanced, 0.031),
        "auroc": metric(auroc, 0.033),
        "predicted_true_rate": metric(said_true, 0.028),
        "false_acceptance_rate": metric(accepted, 0.04, N_TEST - N_TRUE),
        "safety_error_rate": {
            **metric(0.0891, 0.021, 311), "false_acceptance": metric(0.0612, 0.018, 311),
            "false_rejection": metric(0.0279, 0.011, 311),
        },
        "factual_consistency": None,
        "answer_word_rate": None if name in ("probe", "lexical") else metric(0.9963, 0.0031),
        "calibration": _calibration(accuracy),
        "by_category": {
            "triage": _breakdown(accuracy - 0.0217, 401), "literature": _breakdown(accuracy + 0.0128, 676),
        },
        "by_difficulty": {str(level): _breakdown(accuracy + 0.0093 * level, 359) for level in (1, 2, 3)},
        "matched": {
            **TWINS,
            "accuracy": metric(twins, 0.0371, 652),
            "auroc": metric(twins - 0.0133, 0.0297, 1304),
            "association": metric(0.5839, 0.026, 1364) if name != "lexical" else None,
            "excess": metric(twins - 0.5839, 0.0352, 652) if name != "lexical" else None,
            "vs_unsteered": {"accuracy_difference": metric(twins - ARMS["unsteered"][-1], 0.0377, 652)},
        },
        "reasons": {"factual_consistency": NO_VERIFIER},
    }  # fmt: skip
    if name in ("probe", "lexical"):
        arm["reasons"]["answer_word_rate"] = "no language model answers here"
    arm["vs_unsteered"] = None
    if name != "unsteered":
        arm["vs_unsteered"] = _against(name, difference, balanced - ARMS["unsteered"][1])
    return arm


def _breakdown(accuracy: float, n: int) -> dict[str, Any]:
    return {
        "n": n,
        "accuracy": metric(accuracy, 0.047, n),
        "balanced_accuracy": None,
        "false_acceptance_rate": None,
        "reasons": {"balanced_accuracy": NO_VERIFIER, "false_acceptance_rate": NO_VERIFIER},
    }


def _against(name: str, difference: float, balanced: float) -> dict[str, Any]:
    harmed = 87
    return {
        "accuracy_difference": metric(difference, 0.0343),
        "balanced_accuracy_difference": metric(balanced, 0.0361),
        "mcnemar_p": 4.1e-14 if difference > 0.2 else 0.0362,
        "helped": harmed + round(difference * N_TEST),
        "harmed": harmed,
        "examples": _examples() if name in ("gated", "paper") else {"helped": [], "harmed": []},
    }


def _examples() -> dict[str, Any]:
    return {
        "helped": [
            _example(12, "The invented nerve runs behind the imagined bone.", answer=True, before=-1.253, after=2.318),
            _example(408, "The made-up muscle bends the invented finger.", answer=False, before=0.377, after=-1.94),
            _example(77, STRANGE, answer=True, before=-0.12, after=0.882),
        ],
        "harmed": [
            _example(531, "The invented vein carries blood to the fictive lobe.", answer=False, before=-0.61, after=1.175),
            _example(90, "The imagined ligament is part of the invented joint.", answer=True, before=0.244, after=-0.731),
        ],
    }  # fmt: skip


def _example(row: int, statement: str, *, answer: bool, before: float, after: float) -> dict[str, Any]:
    return {"row": row, "statement": statement, "answer": answer, "unsteered_score": before, "score": after}


def _calibration(accuracy: float) -> dict[str, Any]:
    bins = [
        {
            "mean_score": 0.05 + at / 10,
            "share_true": 0.5 + (at / 10 - 0.45) * accuracy,
            "n": 40 + 15 * ((7 * at) % 10),
        }
        for at in range(10)
    ]
    wrong = 1 - accuracy
    return {
        "brier": metric(0.31 - 0.17 * accuracy),
        "ece": metric(0.2 - 0.13 * accuracy),
        "bins": bins,
        "risk_coverage": [
            {"coverage": at / 20, "risk": wrong * (0.35 + 0.65 * at / 20)} for at in range(1, 21)
        ],
    }


def _control(name: str) -> dict[str, Any]:
    of, middle, spread = CONTROLS[name]
    chance = random.Random(name)
    draws = {
        metric_name: [centre + chance.uniform(-spread, spread) for _ in range(20)]
        for metric_name, centre in (
            ("accuracy", middle),
            ("balanced_accuracy", middle + 0.031),
            ("auroc", 0.673),
        )
    }
    figures = {key: {"value": sorted(drawn)[9], "draws": drawn} for key, drawn in draws.items()}
    twins = {"value": 0.5012, "draws": [0.5012 + chance.uniform(-0.03, 0.03) for _ in range(20)]}
    return {
        "of": of,
        **figures,
        "predicted_true_rate": None,
        "false_acceptance_rate": None,
        "vs_unsteered": {
            f"{key}_difference": _minus(figures[key], start)
            for key, start in (
                ("accuracy", ARMS["unsteered"][0]),
                ("balanced_accuracy", ARMS["unsteered"][1]),
            )
        },
        "matched": {**TWINS, "accuracy": twins},
        "reasons": {},
    }


def _minus(drawn: dict[str, Any], start: float) -> dict[str, Any]:
    return {"value": drawn["value"] - start, "draws": [draw - start for draw in drawn["draws"]]}


def _sweep() -> dict[str, Any]:
    layers, strengths = list(range(11, 30, 2)), [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
    chance = random.Random(5)
    grid = [
        [0.62 + 0.15 * min(1, s / 4) * (1 - abs(layer - 21) / 22) - 0.002 * s + chance.uniform(-0.01, 0.01) for s in strengths]
        for layer in layers
    ]  # fmt: skip
    balanced = [[value - 0.021 for value in row] for row in grid]
    nothing = [[None] * len(strengths) for _ in layers]
    return {
        "strategy": "gated",
        "reading": "statement",
        "fitted_on": "twins",
        "layers": layers,
        "strengths": strengths,
        "n_train": 574,
        "n_measured": 287,
        "note": "An invented map.",
        "unsteered": {"accuracy": 0.5313},
        "accuracy": grid,
        "balanced_accuracy": balanced,
        **dict.fromkeys(
            ("auroc", "predicted_true_rate", "false_acceptance_rate", "answer_word_rate"), nothing
        ),
        "seconds": {},
        "from_cached_states": True,
    }


def finished_run(runs: RunStore, request: EvaluationRequest, result: Mapping[str, Any]) -> Run:
    """Store an evaluation that a command has finished."""
    leased = runs.begin("evaluation", request.as_json(), owner="command", seconds=30)
    runs.finish(leased, result)
    return runs.get(leased.public_id)
