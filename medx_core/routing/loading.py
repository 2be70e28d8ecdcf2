"""Which router the settings mean: loading it, and whether it must be trained first. Imports torch only to load."""

from collections.abc import Sequence
from pathlib import Path

from medx_core.data.emergency_messages import EmergencyMessage, messages_sha256
from medx_core.data.routing_texts import RoutingText
from medx_core.errors import RouterUnavailable
from medx_core.routing.emergencies import find_emergency_head
from medx_core.routing.encoder_files import encoder_folder, folder_sha256, is_classifier
from medx_core.routing.heads import RouterHead, find_head
from medx_core.routing.router import ScoringRouter, texts_sha256, with_added
from medx_core.routing.rules_router import RULES, RulesRouter


def load_router(
    encoder_name: str, routers_folder: Path, *, device: str = "cpu", threshold: float = 0.0
) -> ScoringRouter:
    """Load the router that `encoder_name` means.

    `rules` is the baseline of keywords, a folder made by `medx router train --encoder` is a fine-tuned classifier, and
    anything else is a sentence encoder (the wheel's name, a folder, a hub id) with the head trained for it. A
    `threshold` of 0 leaves the router's own.

    Raises:
        RouterUnavailable: it cannot be loaded, or was not trained yet.
    """
    if encoder_name == RULES:
        return RulesRouter()
    folder = Path(encoder_name).expanduser()
    if is_classifier(folder):
        from medx_core.routing.classifier import load_classifier

        return load_classifier(folder, device=device, threshold=threshold)
    from medx_core.routing.embedding_router import load_embedding_router

    return load_embedding_router(encoder_name, routers_folder, device=device, threshold=threshold)


def uses_head(encoder_name: str) -> bool:
    """Whether a router is a sentence encoder with a head, not the rules or a fine-tuned classifier."""
    return encoder_name != RULES and not is_classifier(Path(encoder_name).expanduser())


def head_in_use(encoder_name: str, routers_folder: Path) -> tuple[RouterHead, Path]:
    """Return the head in use for a sentence encoder, and its file.

    Raises:
        RouterUnavailable: the encoder is not available, or its head is missing or damaged.
    """
    return find_head(routers_folder, folder_sha256(encoder_folder(encoder_name)))


def knows_emergencies(encoder_name: str, routers_folder: Path, messages: Sequence[EmergencyMessage]) -> bool:
    """Whether there is nothing to learn from these messages: a head knows them, or the router in use takes none.

    Raises:
        RouterUnavailable: the encoder is not available.
    """
    if not uses_head(encoder_name):
        return True
    try:
        head = find_emergency_head(routers_folder, folder_sha256(encoder_folder(encoder_name)))
    except RouterUnavailable:
        return False
    return head is not None and head.provenance.data_sha256 == messages_sha256(messages)


def needs_training(
    encoder_name: str,
    routers_folder: Path,
    bundled: Sequence[RoutingText],
    added: Sequence[RoutingText] = (),
) -> bool:
    """Whether no head knows these texts. A head that was trained with added texts is kept when none are given.

    Raises:
        RouterUnavailable: the encoder is not available.
    """
    if not uses_head(encoder_name):
        return False
    encoder_sha256 = folder_sha256(encoder_folder(encoder_name))
    try:
        provenance = find_head(routers_folder, encoder_sha256)[0].provenance
    except RouterUnavailable:
        return True
    if added:
        return provenance.data_sha256 != texts_sha256(with_added(bundled, added))
    return provenance.bundled_sha256 != texts_sha256(bundled) and not provenance.added_texts
