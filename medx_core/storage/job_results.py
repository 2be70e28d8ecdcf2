"""A stored job as rows of the result file: one row a question and arm, whether it was answered or not.

`medx batch` and the web page's download share this, so that both files are the same.
"""

from collections.abc import Iterable, Iterator, Sequence

from medx_core.data.result_files import ResultRow
from medx_core.jobs.snapshots import ItemSnapshot
from medx_core.questions import Answer, Arm, Verdict


def result_rows(items: Iterable[ItemSnapshot], arms: Sequence[Arm]) -> Iterator[ResultRow]:
    """Yield the rows of a job's items, in their order and the order of `arms`."""
    for item in items:
        answers = {stored.answer.arm: stored.answer for stored in item.answers}
        for arm in arms:
            yield _row(item, arm, answers.get(arm))


def _row(item: ItemSnapshot, arm: Arm, answer: Answer | None) -> ResultRow:
    route = item.route
    routed = {
        "category": route.category.value if route and route.category else "",
        "category_probability": route.probability if route else None,
        "route_source": route.source.value if route else "",
    }
    answered = {} if answer is None else _answered(answer, item.expected)
    return ResultRow(
        row=item.row,
        id=item.given_id,
        question=item.text,
        arm=arm.value,
        answer=item.expected,
        status=item.status.value,
        reason=item.reason or (answer.note if answer else ""),
        carried=item.carried,
        **routed,  # type: ignore[arg-type]  # values of three kinds, each under its own name
        **answered,  # type: ignore[arg-type]  # as above
    )


def _answered(answer: Answer, expected: bool | None) -> dict[str, object]:
    return {
        "verdict": answer.verdict.value if answer.verdict else "",
        "score": answer.score,
        "text": answer.text or "",
        "correct": is_correct(answer, expected),
        "model": answer.model,
        "model_sha256": answer.model_sha256,
        "vector": answer.vector or "",
        "layer": answer.layer,
        "alpha": answer.alpha,
        "prompt_version": answer.prompt_version,
        "seconds": answer.seconds,
    }


def is_correct(answer: Answer, expected: bool | None) -> bool | None:
    """Whether the raw verdict agrees with the expected answer; None where either is missing."""
    if expected is None or answer.raw_verdict is None:
        return None
    return (answer.raw_verdict is Verdict.TRUE) is expected
