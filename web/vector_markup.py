"""HTML and sentences about vector versions: what each is, and what promoting, retiring or going back would do."""

from collections.abc import Sequence

from medx_core.errors import BadInput
from medx_core.storage.vector_store import VectorRecord, VectorStatus
from web import wording
from web.evidence import Evidence
from web.markup import escape, link, note, table, tag

PROMOTE, RETIRE, ROLL_BACK = "Promote", "Retire", "Roll back"
SMALL_SHARE = 0.01


def vectors_html(vectors: Sequence[VectorRecord], evidence: Evidence) -> str:
    """List the vector versions with what is known of them, the newest evaluation of vectors made this way included."""
    head = [
        ("vector", "short"), ("state", "short"), ("model", "named"), ("strategy", ""), ("layer", "num"),
        ("alpha", "num"), ("norm", "num"), ("made", "num"), ("evidence", "wide"),
    ]  # fmt: skip
    rows = (
        (
            escape(vector.name),
            tag("span", escape(_state(vector)), f"medx-state-{vector.status.value}"),
            escape(vector.model) + tag("small", escape(vector.model_sha256[:8]), "medx-below"),
            escape(f"{vector.strategy.replace('_', ' ')} ({vector.preset})"),
            escape(vector.layer),
            escape(f"{vector.alpha:g}"),
            escape(_figure(vector.diagnostics.get("norm"))),
            escape(f"{vector.created_at:%Y-%m-%d}" if vector.created_at else ""),
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
    known = [evidence.of(vector)[0]]
    share = vector.diagnostics.get("relative_norm")
    if isinstance(share, (int, float)):
        known.append(f"Its length is {100 * share:.2g} % of the residual stream's.")
        if share * vector.alpha < SMALL_SHARE:
            known.append("That is too small to change many answers.")
    return tag("p", escape(sentence), "medx-lead") + note(" ".join(known))


def _worth(evidence: Evidence, vector: VectorRecord) -> str:
    line, run_id = evidence.of(vector)
    return f"{escape(line)} {link(f'/app/results?run={run_id}', 'Why?')}" if run_id else escape(line)


def _state(vector: VectorRecord) -> str:
    return "in use" if vector.status is VectorStatus.ACTIVE else vector.status.value


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else ""
