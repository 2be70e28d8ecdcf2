"""The logits read from final states are the network's own, whatever its architecture does to them."""

import pytest
import torch

from medx_core.models.scoring import network_logits
from tests.language_models import ARCHITECTURES, tiny_model


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_the_logits_are_the_networks_own(architecture):
    model = tiny_model(architecture)
    ids = torch.arange(3, 12)[None]
    with torch.inference_mode():
        own = model.network(input_ids=ids).logits
        states = model.network.base_model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(network_logits(model, states), own, atol=1e-5, rtol=1e-5)
