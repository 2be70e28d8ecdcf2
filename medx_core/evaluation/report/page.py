"""The report of an evaluation: a section for the web page, a whole page as one file, a folder for `--report`."""

import json
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from medx_core.evaluation import number_format
from medx_core.evaluation.report import charts, provenance, tables, words
from medx_core.evaluation.result import CLASSIFIERS, UNSTEERED, EvaluationResult

TEMPLATES = Path(__file__).parent / "templates"
PAGE_NAME, RESULT_NAME = "index.html", "result.json"


def write_report(result: EvaluationResult, folder: Path) -> Path:
    """Write the page and the JSON it was made from into a folder, and return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / PAGE_NAME
    page.write_text(report_html(result), encoding="utf-8")
    text = json.dumps(result.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / RESULT_NAME).write_text(text + "\n", encoding="utf-8")
    return page


def report_html(result: EvaluationResult) -> str:
    """Return a whole page that loads nothing else."""
    return _environment().get_template("page.html").render(heading="h1", **_values(result))


def results_section(result: EvaluationResult) -> Markup:
    """Return the body of the report, for a page that has a title of its own and carries `stylesheet()`."""
    return Markup(_environment().get_template("section.html").render(heading="h2", **_values(result)))  # noqa: S704 - the template escaped it


def stylesheet() -> Markup:
    """Return the style of the section; every class begins with `mx-report`."""
    return Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("count", "percent", "plain", "signed", "written"):
        environment.filters[name] = getattr(number_format, name)
    environment.filters |= {"arm_title": words.arm_title, "arm_meaning": words.arm_meaning}
    environment.globals["CLASSIFIERS"] = CLASSIFIERS
    return environment


def _values(result: EvaluationResult) -> dict[str, object]:
    """Return everything that the templates write; they decide nothing but the order."""
    declared = result.judged.arm
    tones = {UNSTEERED: "plain", declared: "declared"} | ({"paper": "other"} if declared != "paper" else {})
    compared = words.compared_arms(result)
    curves = {name: arm for name in tones if (arm := result.arm(name))}
    return {
        "result": result,
        "declared": declared,
        "verdict": words.verdict_badge(result),
        "rule": words.rule_in_words(result),
        "main_facts": provenance.main_facts(result),
        "compared": compared,
        "panels": charts.forest_panels(result),
        "wording_free": words.wording_free_in_words(result.matched),
        "wording_free_table": tables.wording_free_table(result),
        "arm_table": tables.arm_table(result),
        "changes": tables.changes_table(result),
        "judgement": tables.judgement_table(result),
        "exploratory": tables.exploratory_table(result),
        "comparisons": tables.comparison_table(result),
        "other_models": [
            (name, model.conclusion, tables.arm_table(model)) for name, model in result.models.items()
        ],
        "breakdowns": tables.breakdown_tables(result),
        "draws": tables.draws_of_controls(result),
        "maps": charts.layer_maps(result),
        "profile": charts.layer_profile(result),
        "curves_shown": {words.arm_title(name): tones[name] for name in curves},
        "calibration": charts.calibration_plot(curves, tones),
        "risk": charts.risk_plot(curves, tones),
        "confidences": charts.confidence_plots(curves),
        "trust_tables": tables.trust_tables(result),
        "calibration_tables": tables.calibration_tables(result),
        "with_examples": [
            (name, against)
            for name, arm in compared.items()
            if (against := arm.vs_unsteered) and (against.examples.helped or against.examples.harmed)
        ],
        "facts": provenance.all_facts(result),
        "fact_tables": provenance.all_tables(result),
        "arms": words.arms_in_order(result),
    }
