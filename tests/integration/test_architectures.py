"""The table of architectures in docs/models.md says what was measured."""

import pytest

from tests.architectures import ARCHITECTURES, row, written_rows


def test_every_architecture_has_its_row():
    assert list(written_rows()) == list(ARCHITECTURES)
    assert len(ARCHITECTURES) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_row_is_what_is_measured(architecture, tmp_path):
    assert row(architecture, tmp_path) == written_rows()[architecture]
