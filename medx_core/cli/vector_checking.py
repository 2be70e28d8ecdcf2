"""`medx vectors check`: what the active vectors look like, and how like each other they are."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medx_core.cli.database import opened_database
from medx_core.cli.vector_contract import as_contract
from medx_core.errors import NotFound
from medx_core.settings import settings
from medx_core.storage.vector_provenance import provenance_of
from medx_core.storage.vector_store import VectorRecord, VectorStatus

if TYPE_CHECKING:
    from torch import Tensor

    from medx_core.steering.steering_vector import SteeringVector

Cosines = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Comparison:
    """The cosines among the active vectors of one model, strategy and layer, by their names.

    Gated vectors are compared by their gates' weights: their directions are the answer's gradient, alike by making.
    """

    model: str
    model_sha256: str
    strategy: str
    layer: int
    cosines: Cosines

    def as_json(self) -> dict[str, Any]:
        """Return it by name."""
        return {
            "model": self.model,
            "model_sha256": self.model_sha256,
            "strategy": self.strategy,
            "layer": self.layer,
            "cosines": {name: dict(row) for name, row in self.cosines.items()},
        }


def check(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Check the active vectors: norm, cosines between categories, shift of the hidden states.

    Exit code 1 when there is none, or when one is missing, was changed or does not fit.
    """
    from medx_core.assembly import build_registry

    with opened_database() as database:
        registry = build_registry(settings(), database)
        records = [record for record in registry.store.list() if record.status is VectorStatus.ACTIVE]
        if not records:
            raise NotFound("There are no active steering vectors; run `medx vectors build`.")
        compared = comparisons([(record, registry.read(record)) for record in records])
    if as_json:
        vectors = [as_contract(record, settings().vectors_folder) for record in records]
        print(json.dumps({"vectors": vectors, "cosines": [one.as_json() for one in compared]}))
        return
    for record in records:
        _print_diagnostics(record)
    _print_cosines(compared)


def comparisons(active: "Sequence[tuple[VectorRecord, SteeringVector]]") -> list[Comparison]:
    """Return the cosines between categories, among vectors of like kind only: same model, strategy and layer.

    Others cannot be compared: a cosine between the spaces of two models, or of two layers, says nothing.
    """
    from medx_core.steering.diagnostics import cosines_between

    kinds: dict[tuple[str, str, int], list[tuple[VectorRecord, SteeringVector]]] = defaultdict(list)
    for record, vector in active:
        kinds[record.model_sha256, record.strategy, record.layer].append((record, vector))
    return [
        Comparison(
            model=alike[0][0].model,
            model_sha256=model_sha256,
            strategy=strategy,
            layer=layer,
            cosines=cosines_between({record.name: _what_tells_apart(vector) for record, vector in alike}),
        )
        for (model_sha256, strategy, layer), alike in kinds.items()
        if len(alike) > 1
    ]


def _what_tells_apart(vector: "SteeringVector") -> "Tensor":
    return vector.gate.weight if vector.gate else vector.direction


def _print_cosines(compared: Sequence[Comparison]) -> None:
    if not compared:
        print(
            "No cosines between categories: no two active vectors are of one model, one strategy and one layer."
        )
    for one in compared:
        what = "gates" if one.strategy == "gated" else "directions"
        print(f"Cosine between categories, {one.model}, {what} of {one.strategy} at layer {one.layer}:")
        for name, row in one.cosines.items():
            print(f"  {name:<24} " + "  ".join(f"{value:6.3f}" for value in row.values()))


def _print_diagnostics(record: VectorRecord) -> None:
    from medx_core.evaluation.vector_findings import gain_sentence, warnings_of

    found = record.diagnostics
    print(f"{record.model}: {record.name} (layer {record.layer}, alpha {record.alpha:g}, {record.strategy})")
    made = provenance_of(settings().vectors_folder, record)
    print(
        f"  {made.in_words(record.strategy)}; data {made.data_sha256[:12]}, prompt {made.prompt_version}, "
        f"positions {made.positions}, made {made.created_at[:10]}"
    )
    for line in _figures(found):
        print(f"  {line}")
    print(f"  {gain_sentence(found)}")
    for warning in warnings_of(found):
        print(f"  {warning}")


def _figures(found: Mapping[str, Any]) -> Iterator[str]:
    """Say each figure that was computed; imported vectors have few."""
    if "relative_norm" in found:
        yield f"norm                         {found['norm']:.4g}, moves states by {100 * found['relative_norm']:.2f} % of the residual stream"
    if "shift" in found:
        shift = found["shift"]
        yield f"shift of the hidden states   {shift['mean_shift']:.4g}, {shift['in_deviations']:.3f} standard deviations"
    for key, words in (
        ("separation", "separation of the traces    "),
        ("shuffled_separation", "with shuffled labels at most"),
        ("halves_cosine", "cosine between split halves "),
        ("shuffled_cosine", "cosine with shuffled labels "),
        ("shuffled_cosine_size", "the same, sign left out     "),
    ):
        if found.get(key) is not None:
            yield f"{words} {found[key]:.3f}"
