"""A head whose file was damaged is refused, however little of it changed."""

from pathlib import Path

import pytest
from safetensors import safe_open

from medx_core.errors import RouterUnavailable
from medx_core.routing.heads import CONTENT_SHA256, load_with_provenance, shipped_heads

SHIPPED = sorted(shipped_heads().glob("*.safetensors"))


def test_the_heads_that_come_with_medx_carry_the_hash_of_their_content() -> None:
    assert len(SHIPPED) == 2
    for path in SHIPPED:
        with safe_open(path, framework="np") as stored:
            assert CONTENT_SHA256 in stored.metadata()
        load_with_provenance(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_one_changed_bit_or_a_missing_end_is_noticed(path: Path, tmp_path: Path) -> None:
    content, copy = bytearray(path.read_bytes()), tmp_path / path.name
    content[-2] ^= 1  # the lowest bits of a weight: another number, still finite
    copy.write_bytes(content)
    with pytest.raises(RouterUnavailable, match=r"is damaged: .*; run `medx router train`"):
        load_with_provenance(copy)
    copy.write_bytes(content[: len(content) // 2])
    with pytest.raises(RouterUnavailable, match="not a readable safetensors file"):
        load_with_provenance(copy)
