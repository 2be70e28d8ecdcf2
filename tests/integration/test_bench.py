"""`medx bench`, as far as it needs no clock."""

import json
from pathlib import Path

from medx_core.cli.bench import bench


def test_both_arms_are_held_against_one_arm_of_the_same_statements(tiny_home: Path) -> None:
    out = tiny_home.parent / "bench.json"
    bench(only="both_arms", json_out=str(out))
    result = json.loads(out.read_text())["benches"]["both_arms"]
    assert set(result) == {"ratio", "low", "high", "ours", "theirs", "unit", "against", "parts"}
    assert 0 < result["low"] <= result["ratio"] <= result["high"]
    assert (result["ours"], result["theirs"]) == (result["parts"]["both arms"], result["parts"]["one arm"])
    assert len(result["parts"]) == 6, "one, two and three arms, alone and in a micro-batch"
