"""The report: a section for the web page, a whole page for a file, a folder for `--report`."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from medx_core.evaluation.number_format import count, number
from medx_core.evaluation.report import (
    curves,
    detail_tables,
    examples,
    forest_plot,
    provenance,
    verdict_tables,
    verdict_words,
)
from medx_core.evaluation.report.arm_table import arm_table
from medx_core.evaluation.report.layer_map import layer_map, layer_profile
from medx_core.evaluation.report.readings import UNSTEERED, Arm, Evaluation, Json, evaluation, part
from medx_core.evaluation.report.table_values import Table

TEMPLATES = Path(__file__).parent / "templates"
PAGE_NAME, RESULT_NAME = "index.html", "result.json"


def write_report(result: Json, folder: Path) -> Path:
    """Write the page and the JSON it was made from into a folder, and return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / PAGE_NAME
    page.write_text(report_html(result), encoding="utf-8")
    written = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / RESULT_NAME).write_text(written + "\n", encoding="utf-8")
    return page


def report_html(result: Json) -> str:
    """Return a whole page that needs nothing beside itself."""
    evaluated = evaluation(result)
    title = f"MedX evaluation: {provenance.compared(evaluated)[0].value}"
    return _template("page.html").render(title=title, conclusion_tag="h1", **_shown(evaluated))


def results_section(result: Json) -> str:
    """Return the body of the report, to be put into a page that carries `stylesheet()` and a title of its own."""
    return _template("section.html").render(conclusion_tag="h2", **_shown(evaluation(result)))


def stylesheet() -> str:
    """Return the style of the section; every class begins with `mx-report`."""
    return (TEMPLATES / "report.css").read_text(encoding="utf-8")


def _template(name: str) -> Template:
    return _environment().get_template(name)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(evaluated: Evaluation) -> dict[str, Any]:
    """Gather all that the template writes; it decides nothing but the order."""
    result = evaluated.result
    tone, verdict = verdict_words.verdict(evaluated)
    wording_free, is_valid = verdict_words.wording_free_meaning(evaluated)
    lines = _lines(evaluated)
    return {
        "conclusion": str(result.get("conclusion") or "This evaluation came to no conclusion."),
        "verdict": verdict,
        "tone": tone,
        "verdict_meaning": verdict_words.verdict_meaning(evaluated),
        "compared": provenance.compared(evaluated),
        "panels": (*forest_plot.difference_panels(evaluated), forest_plot.wording_free_panel(evaluated)),
        "rows": forest_plot.row_names(evaluated),
        "row_height": forest_plot.ROW,
        "declared": evaluated.declared,
        "has_bands": any(evaluated.controls(arm.name) for arm in evaluated.compared),
        "has_association": any(part(part(arm.data, "matched"), "association") for arm in evaluated.arms),
        "wording_free": wording_free,
        "wording_free_valid": is_valid,
        "wording_free_table": verdict_tables.wording_free_table(evaluated),
        "arm_table": arm_table(evaluated),
        "judgement": verdict_tables.judgement_table(evaluated),
        "exploratory": verdict_tables.exploratory_table(evaluated),
        "comparisons": verdict_tables.comparison_table(evaluated),
        "other_models": _other_models(evaluated),
        "breakdowns": detail_tables.breakdowns(evaluated),
        "draws": detail_tables.draw_rows(evaluated),
        "maps": _maps(evaluated),
        "profile": _profile(evaluated),
        "lines": lines,
        "calibration": curves.calibration_plot(lines),
        "risk": curves.risk_plot(lines),
        "calibration_table": detail_tables.calibration_table(evaluated),
        "bins": detail_tables.bin_tables(evaluated.arms),
        "examples": [(arm, found) for arm in evaluated.compared if (found := examples.examples_of(arm))],
        "facts": provenance.all_facts(result),
        "fact_tables": provenance.all_tables(result),
        "meanings": [(arm.title, arm.meaning) for arm in evaluated.arms if arm.meaning],
        "n_test": _items(result.get("n_test")),
    }


def _lines(evaluated: Evaluation) -> list[tuple[Arm, str]]:
    """Return the arms whose curves are drawn: unsteered, the declared one, and the paper's."""
    wanted = dict.fromkeys((UNSTEERED, evaluated.declared, "paper"))
    found = [arm for name in wanted if (arm := evaluated.arm(name)) and part(arm.data, "calibration")]
    tones = {UNSTEERED: "plain", evaluated.declared: "declared"}
    return [(arm, tones.get(arm.name, "other")) for arm in found]


def _maps(evaluated: Evaluation) -> list[tuple[str, Markup]]:
    sweep = part(evaluated.result, "sweep")
    choices = provenance.choices_of(evaluated)
    chosen = (number(choices.get("layer")), number(choices.get("strength")))
    titles = (("accuracy", "Accuracy"), ("balanced_accuracy", "Balanced accuracy"), ("auroc", "AUROC"))
    return [(title, drawn) for key, title in titles if (drawn := layer_map(sweep, key, chosen))]


def _profile(evaluated: Evaluation) -> Markup | None:
    choices = provenance.choices_of(evaluated)
    return layer_profile(part(choices, "layers_tried"), number(choices.get("layer")))


def _other_models(evaluated: Evaluation) -> list[tuple[str, str, Table]]:
    """Return the models beside the judged one: name, conclusion, arms."""
    models = part(evaluated.result, "models")
    return [
        (
            name,
            str(one.get("conclusion", "")),
            arm_table(evaluation({**one, "declared": evaluated.declared})),
        )
        for name in models
        if (one := part(models, name))
    ]


def _items(value: object) -> str:
    known = number(value)
    return "" if known is None else f"{count(int(known))} test items"
