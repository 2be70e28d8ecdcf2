"""HTML and sentences about vector versions: what each is, and what promoting, retiring or going back would do."""

import re
from collections.abc import Sequence
from pathlib import Path

from medx_core.errors import BadInput, VectorRefused
from medx_core.evaluation.vector_findings import gain_sentence, warnings_of
from medx_core.storage.vectors import VectorRecord, VectorStatus, provenance_of
from web import wording
from web.evidence import Evidence
from web.markup import escape, link, note, table, tag

PROMOTE, RETIRE, ROLL_BACK = "Promote", "Retire", "Roll back"
_END_OF_VERDICT = re.compile(r": |\. ")


def vectors_html(vectors: Sequence[VectorRecord], evidence: Evidence, folder: Path) -> str:
    """List the vector versions with what is known of them, the newest evaluation of vectors made this way included.

    How each was read comes from its file in `folder`; where that cannot be used, the row says so.
    """
    head = [
        ("vector", "short"), ("state", "short"), ("model", "named"), ("strategy", ""), ("layer", "num"),
        ("alpha", "num"), ("norm", "num"), ("evidence", "wide"),
    ]  # fmt: skip
    rows = (
        (
            escape(vector.name) + tag("small", escape(_day(vector)), "medx-below"),
            tag("span", escape(_state(vector)), f"medx-state-{vector.status.value}"),
            escape(vector.model) + tag("small", escape(vector.model_sha256[:8]), "medx-below"),
            escape(f"{vector.strategy.replace('_', ' ')} ({vector.preset})")
            + tag("small", escape(_made(vector, folder)), "medx-below"),
            escape(vector.layer),
            escape(f"{vector.alpha:g}"),
            escape(_figure(vector.diagnostics.get("norm"))),
            _worth(evidence, vector),
        )
        for vector in vectors
    )
    empty = "There are no vectors yet; questions are answered plain. Build them with medx vectors build."
    return table(head, rows, empty=empty, name="Vectors")


def consequence(
    action: str, vector: VectorRecord, *, present: VectorRecord | None, before: VectorRecord | None
) -> str:
    """Ask whether to do it, and say what it does; `present` is in use now, `before` was in use before it.

    Raises:
        BadInput: there is nothing to do, or no such action.
    """
    kind = f"{wording.kind_name(vector.category)} questions on {vector.model}"
    if action == PROMOTE and vector.status is not VectorStatus.ACTIVE:
        now = f"in place of {present.name}" if present else "where none is in use"
        return f"Use {vector.name} for {kind}, {now}?"
    if action == RETIRE and vector.status is not VectorStatus.RETIRED:
        after = f" With that, {kind} are answered plain." if vector.status is VectorStatus.ACTIVE else ""
        return f"Retire {vector.name}?{after}"
    if action == ROLL_BACK and present is not None and before is not None:
        return f"Go back from {present.name} to {before.name} for {kind}?"
    raise BadInput(
        {
            PROMOTE: f"{vector.name} is in use already.",
            RETIRE: f"{vector.name} is retired already.",
            ROLL_BACK: f"There is no earlier vector for {kind} to go back to.",
        }.get(action, f"There is no action {action!r}.")
    )


def confirm_html(sentence: str, vector: VectorRecord, evidence: Evidence) -> str:
    """Show what an action would do, with what is known of the vector."""
    found = vector.diagnostics
    known = [evidence.of(vector)[0], gain_sentence(found)]
    share = found.get("relative_norm")
    if isinstance(share, (int, float)):
        known.append(f"It moves states by {100 * share:.2g} % of the residual stream.")
    warnings = "".join(note(one) for one in warnings_of(found))
    return tag("p", escape(sentence), "medx-lead") + note(" ".join(known)) + warnings


def _made(vector: VectorRecord, folder: Path) -> str:
    try:
        return provenance_of(folder, vector).in_words(vector.strategy)
    except VectorRefused as error:
        return str(error)


def _worth(evidence: Evidence, vector: VectorRecord) -> str:
    line, run_id = evidence.of(vector)
    if not run_id:
        return escape(line)
    verdict = _END_OF_VERDICT.split(line, maxsplit=1)[0].rstrip(".")  # the rest stands where the link leads
    return f"{escape(verdict)}. {link(f'/app/results?run={run_id}', 'Why?')}"


def _day(vector: VectorRecord) -> str:
    return f"{vector.created_at:%Y-%m-%d}" if vector.created_at else ""


def _state(vector: VectorRecord) -> str:
    return "in use" if vector.status is VectorStatus.ACTIVE else vector.status.value


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else ""
