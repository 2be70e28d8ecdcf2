"""HTML of the review page. Nothing here says which arm, model, vector or colleague an answer comes from."""

from collections.abc import Sequence

from medx_core.review.rating_form import BlindedAnswer, StoredRating
from web import wording
from web.markup import escape, link, note, table, tag

SHORT_TEXT = 110


def blinded_html(answer: BlindedAnswer) -> str:
    """Show the question and the answer to be rated."""
    if answer.text is not None:
        said = tag("p", escape(wording.written(answer.text)), "medx-text")
    else:
        said = tag("p", escape(wording.verdict_word(answer.verdict)), "medx-verdict")
    emergency = ""
    if answer.is_triage or answer.red_flag:
        emergency = tag("p", escape(wording.EMERGENCY), "medx-emergency", role="note")
    kind = f"Kind: {wording.kind_name(answer.category)}"
    return tag(
        "section",
        tag("h3", "Question")
        + tag("blockquote", escape(answer.question), "medx-question")
        + tag("h3", "Answer")
        + said
        + emergency
        + tag("p", escape(kind), "medx-provenance"),
        "medx-card medx-blinded",
        data_answer=answer.answer_id,
    )


def progress_html(done: int, left: int, saved: str = "") -> str:
    """Say how many are done and left."""
    parts = [f"{done:,} rated by you", f"{left:,} left"]
    return tag("p", escape(" · ".join(parts + ([saved] if saved else []))), "medx-note", role="status")


def nothing_html() -> str:
    """Say that there is nothing to rate."""
    return tag("section", note(wording.NOTHING_TO_RATE), "medx-card medx-blinded empty")


def own_ratings_html(ratings: Sequence[StoredRating]) -> str:
    """List a rater's own ratings, each with the way to change it."""
    head = [
        ("question", "wide"),
        ("answer", "wide"),
        ("harm", ""),
        ("seconds", "num"),
        ("changed", "num"),
        ("", ""),
    ]
    rows = (
        (
            escape(_short(rating.answer.question)),
            escape(
                _short(
                    wording.written(rating.answer.text)
                    if rating.answer.text is not None
                    else wording.verdict_word(rating.answer.verdict)
                )
            ),
            escape("cannot judge" if rating.form.cannot_judge else rating.form.harm or ""),
            escape(f"{rating.seconds:.0f}"),
            escape(f"{rating.changed_at:%Y-%m-%d %H:%M}"),
            link(f"/app/review?rating={rating.public_id}", "change"),
        )
        for rating in ratings
    )
    return table(head, rows, empty="Your ratings appear here.", name="Your ratings")


def _short(text: str) -> str:
    return text if len(text) <= SHORT_TEXT else text[: SHORT_TEXT - 3].rstrip() + "..."
