import pytest
from transformers import modeling_gguf_pytorch_utils as reading

from medx_core.models.gguf_conversion import bars_on_terminals_only


def test_no_bar_is_drawn_into_a_log_and_the_bar_is_left_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    bar = reading.tqdm
    with bars_on_terminals_only():
        assert list(reading.tqdm([1, 2], desc="Converting and de-quantizing")) == [1, 2]
    assert reading.tqdm is bar
    assert capfd.readouterr() == ("", "")
