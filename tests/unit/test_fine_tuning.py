import torch

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.lab.fine_tuning import FineTuningSpec, fine_tuned_scores
from medx_core.prompts import STATEMENT_PROMPT
from tests.language_models import tiny_model

TRUE = [LabelledStatement(f"The heart pumps blood {n}.", answer=True, group=f"t{n}") for n in range(12)]
FALSE = [LabelledStatement(f"Insulin raises glucose {n}.", answer=False, group=f"f{n}") for n in range(12)]


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every weight of a network, also of layers that are packed."""
    return {
        name: getattr(module, "weight").clone()  # noqa: B009 - a parameter or, when packed, a copy
        for name, module in network.named_modules()
        if getattr(module, "weight", None) is not None
    }


def test_adapters_learn_their_training_statements_and_leave_the_model_as_it_was() -> None:
    model = tiny_model("llama")
    before = weights(model.network)
    texts = [statement.text for statement in TRUE + FALSE]
    tuned = fine_tuned_scores(
        model, STATEMENT_PROMPT, TRUE + FALSE, texts, FineTuningSpec(epochs=20, learning_rate=1e-2)
    )
    assert bool((tuned.scores[: len(TRUE)] > 0).all())
    assert bool((tuned.scores[len(TRUE) :] < 0).all())
    after = weights(model.network)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_the_same_seed_gives_the_same_scores() -> None:
    runs = [
        fine_tuned_scores(
            tiny_model("llama"), STATEMENT_PROMPT, TRUE + FALSE, ["Water is wet."], FineTuningSpec(epochs=1)
        )
        for _ in range(2)
    ]
    assert torch.equal(runs[0].scores, runs[1].scores)
