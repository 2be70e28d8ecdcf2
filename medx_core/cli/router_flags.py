"""`medx router flags`: how well emergencies are recognised in a file of messages, and what speaks for each flag."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medx_core import __version__
from medx_core.cli.outputs import JsonOut, refuse_input_as_output, tell, write_json
from medx_core.data.decoding import file_content
from medx_core.data.emergency_lines import ENGLISH_ONLY
from medx_core.data.emergency_messages import EmergencyMessage, read_message_file
from medx_core.data.languages import is_not_english
from medx_core.data.problems import FileLimits
from medx_core.errors import RouterUnavailable
from medx_core.settings import settings

if TYPE_CHECKING:
    from medx_core.routing.emergencies import Detection

FEW_TEXTS = 100
"""Up to so many are read with NumPy: importing torch would take longer than reading them."""


def flags(
    data: Annotated[
        Path, typer.Option("--data", help="CSV: text and, if known, emergency (1, 0 or empty) and kind.")
    ],
    json_out: JsonOut = "-",
) -> None:
    """Recognise emergencies in a file of messages, and measure where the file says which are."""
    refuse_input_as_output(data, json_out)
    limits = FileLimits.of(settings())
    messages = read_message_file(data, limits)
    detector, found = _detected([message.text for message in messages])
    write_json(
        {
            "medx_version": __version__,
            "data_sha256": _sha256(file_content(data, limits)),
            "detector": detector,
            "n": len(messages),
            **_figures(messages, found),
            "by_kind": {
                kind: _figures(*_of_kind(kind, messages, found))
                for kind in sorted({message.kind for message in messages if message.kind})
            },
            "items": [_item(message, detection) for message, detection in zip(messages, found, strict=True)],
        },
        json_out,
    )


def _detected(texts: Sequence[str]) -> tuple[str, tuple["Detection", ...]]:
    """Return the name of the detector in use, and what it says of every text."""
    from medx_core.routing.embedding_router import load_embedding_router
    from medx_core.routing.emergencies import detect, detect_by_rules
    from medx_core.routing.loading import uses_head

    options = settings()
    reason = f"{options.router_encoder} is no sentence encoder"
    if uses_head(options.router_encoder):
        try:
            router = load_embedding_router(
                options.router_encoder, options.routers_folder, few_texts=len(texts) <= FEW_TEXTS
            )
        except RouterUnavailable as error:
            reason = str(error).rstrip(".")
        else:
            if router.emergency is not None:
                return (
                    f"rules and a learned part ({router.emergency.version})",
                    detect(texts, router.encoder.encode(texts), router.emergency, router.encoder.encode),
                )
            reason = "no learned part was trained for this encoder; run `medx router train`"
    tell(f"The rules decide alone: {reason}.")
    return "rules alone", detect_by_rules(texts)


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _of_kind(
    kind: str, messages: Sequence[EmergencyMessage], found: Sequence["Detection"]
) -> tuple[list[EmergencyMessage], list["Detection"]]:
    pairs = [pair for pair in zip(messages, found, strict=True) if pair[0].kind == kind]
    return [message for message, _ in pairs], [detection for _, detection in pairs]


def _figures(messages: Sequence[EmergencyMessage], found: Sequence["Detection"]) -> dict[str, Any]:
    """Return both rates with 95 % Wilson intervals; one that no row can give is null, with the reason."""
    from medx_core.evaluation.bootstrap import wilson

    figures: dict[str, Any] = {}
    reasons = {}
    for name, label in (("sensitivity", True), ("false_alarm_rate", False)):
        judged = [
            detection.flag
            for message, detection in zip(messages, found, strict=True)
            if message.emergency is label
        ]
        metric = wilson(sum(judged), len(judged))
        figures[name] = metric.model_dump() if metric else None
        if metric is None:
            reasons[name] = f"no row is labelled {int(label)} under emergency"
    return {**figures, "reasons": reasons}


def _item(message: EmergencyMessage, detection: "Detection") -> dict[str, Any]:
    foreign = f" {ENGLISH_ONLY}" if is_not_english(message.text) else ""
    return {
        "text": message.text,
        "emergency": None if message.emergency is None else int(message.emergency),
        **({"kind": message.kind} if message.kind else {}),
        "flag": detection.flag,
        "why": f"{detection.why}{foreign}",
    }
