"""HTML fragments. Everything that is not ours goes through `escape`; model text is shown as plain text."""

import html
from collections.abc import Iterable, Sequence

from medx_core.categories import Route
from medx_core.jobs.snapshots import ItemSnapshot
from medx_core.jobs.status import ItemStatus
from medx_core.questions import Answer, Arm
from web import wording
from web.following import QuestionView


def escape(text: object) -> str:
    """Return text that HTML and Gradio's own placeholders leave alone."""
    return html.escape(str(text), quote=True).replace("@", "&#64;")


def tag(name: str, content: str, css: str = "", **attributes: str) -> str:
    """Wrap ready HTML in an element; attribute values are escaped, `data_x` becomes `data-x`."""
    shown = {"class": css, **{key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}}
    written = "".join(f' {key}="{escape(value)}"' for key, value in shown.items() if value)
    return f"<{name}{written}>{content}</{name}>"


def note(sentence: str, css: str = "") -> str:
    """Return one quiet sentence."""
    return tag("p", escape(sentence), f"medx-note {css}".strip())


def fault(sentence: str) -> str:
    """Return one sentence about what went wrong."""
    return tag("p", escape(sentence), "medx-fault", role="alert")


def bar(value: float, *, label: str, half: bool = False) -> str:
    """Return a small horizontal bar for a share between 0 and 1; `half` marks one half."""
    width = f"{max(0.0, min(1.0, value)) * 100:.1f}%"
    mark = '<i class="medx-half"></i>' if half else ""
    fill = f'<span style="width:{width}"></span>'
    return tag("span", fill + mark, "medx-bar", role="img", aria_label=f"{label} {wording.share(value)}")


def table(head: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], *, empty: str, name: str) -> str:
    """Return a table of ready HTML cells; a head cell is (title, css class), `num` aligns numbers."""
    body = [
        tag(
            "tr",
            "".join(
                tag("td", cell, css, data_label=title) for cell, (title, css) in zip(row, head, strict=True)
            ),
        )
        for row in rows
    ]
    if not body:
        return note(empty)
    titles = "".join(tag("th", escape(title), css, scope="col") for title, css in head)
    inside = tag("thead", tag("tr", titles)) + tag("tbody", "".join(body))
    return tag("div", tag("table", inside, "medx-table", aria_label=name), "medx-scroll", tabindex="0")


def link(address: str, text: str, css: str = "", *, download: bool = False) -> str:
    """Return a link; the text is escaped."""
    return tag("a", escape(text), css, href=address, **({"download": "download"} if download else {}))


def route_html(route: Route) -> str:
    """Show the decided kind and a bar for each probability."""
    shares = sorted(route.probabilities.items(), key=lambda pair: -pair[1])
    bars = "".join(
        tag(
            "span",
            escape(wording.kind_name(kind))
            + bar(value, label=wording.kind_name(kind))
            + escape(wording.share(value)),
            "medx-kind chosen" if kind is route.category else "medx-kind",
        )
        for kind, value in shares
    )
    return tag(
        "div",
        tag("strong", escape(wording.route_sentence(route))) + tag("div", bars, "medx-kinds"),
        "medx-route",
    )


def answer_card(
    arm: Arm, answer: Answer | None, *, partial: str, emergency: bool, state: str, ended: bool = False
) -> str:
    """Show one arm: its answer, or the text written so far, or what it waits for; nothing is awaited once `ended`."""
    parts = [tag("h3", escape(wording.arm_name(arm.value)))]
    if answer is None:
        if partial:
            parts.append(tag("p", escape(partial), "medx-text" if ended else "medx-text writing"))
        if ended or not partial:
            parts.append(note(state, "medx-state"))
    else:
        parts.append(_verdict(answer) if answer.text is None else _text(answer))
    if emergency:
        parts.append(tag("p", escape(wording.EMERGENCY), "medx-emergency", role="note"))
    if answer is not None:
        parts += [note(wording.answer_note(answer.note), "medx-remark")] if answer.note else []
        parts.append(tag("p", escape(wording.provenance(answer)), "medx-provenance"))
    return tag("section", "".join(parts), f"medx-card {arm.value}", data_arm=arm.value)


def _verdict(answer: Answer) -> str:
    word = tag(
        "p",
        escape(wording.verdict_word(answer.verdict)),
        f"medx-verdict {(answer.verdict or 'none').lower()}",
    )
    remark = wording.verdict_remark(answer)
    score = ""
    if answer.score is not None:
        label = wording.SCORE_LABEL
        figure = tag("span", escape(wording.share(answer.score)), "medx-figure")
        score = tag("p", escape(label) + figure + bar(answer.score, label=label, half=True), "medx-score")
    return word + (note(remark) if remark else "") + score


def _text(answer: Answer) -> str:
    remark = wording.finish_remark(answer)
    text = answer.text or ""
    said = tag("p", escape(text), "medx-text") if text.strip() else note(wording.WROTE_NOTHING)
    return said + (note(remark) if remark else "")


def question_html(view: QuestionView, evidence: str = "") -> str:
    """Show a question with everything known of it by now; `evidence` is ready HTML on what its vector is worth."""
    item = view.item
    if item.status is ItemStatus.QUARANTINED:
        return _question_line(item) + tag(
            "p", escape(wording.question_failed(item.reason)), "medx-fault", role="alert"
        )
    state = _state(view)
    answers = {stored.answer.arm: stored.answer for stored in item.answers}
    emergency = item.route is not None and item.route.needs_emergency_line
    cards = "".join(
        answer_card(
            arm,
            answers.get(arm),
            partial=view.partial.get(arm.value, ""),
            emergency=emergency,
            state=state,
            ended=view.finished,
        )
        for arm in view.job.arms
    )
    parts = [_question_line(item)]
    parts += [route_html(item.route)] if item.route is not None else []
    parts.append(tag("div", cards, f"medx-cards of-{len(view.job.arms)}"))
    lines = [escape(wording.STEERED_MEANS)]
    if any(answer.vector for answer in answers.values()):  # without a vector there is nothing that could help
        lines.insert(0, evidence or escape(wording.NOT_EVALUATED))
    parts += [tag("p", line, "medx-evidence") for line in lines]
    return tag("div", "".join(parts), "medx-answer", data_status=item.status.value, aria_live="polite")


def _question_line(item: ItemSnapshot) -> str:
    return tag("blockquote", escape(item.text), "medx-question")


def _state(view: QuestionView) -> str:
    if view.item.status is ItemStatus.CANCELLED:
        written = any(view.partial.values()) or view.item.answers
        return "Cancelled while it was written." if written else "Cancelled before an answer was written."
    if view.item.status is ItemStatus.RUNNING:
        return "Answering ..."
    return wording.waiting(view.ahead, worker_seen=view.worker_seen)
