"""Settings are complete in the example file, and a bad one is named."""

import re
from pathlib import Path

import pytest

from medx_core.errors import SettingsFault
from medx_core.settings import Settings, settings

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "env.example"
BY_URL = {"database_url": "DATABASE_URL", "redis_url": "REDIS_URL"}


def test_every_setting_stands_in_the_example_with_its_default():
    shown = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    names = {name: BY_URL.get(name, f"MEDX_{name.upper()}") for name in Settings.model_fields}
    assert set(shown) == set(names.values())
    for name, variable in names.items():
        if name != "home" and shown[variable]:
            assert (
                getattr(Settings(**{name: shown[variable]}), name) == Settings.model_fields[name].default
            ), variable


def test_a_value_that_cannot_be_used_is_named(monkeypatch):
    monkeypatch.setenv("MEDX_UNCERTAIN_MARGIN", "0.9")
    settings.cache_clear()
    with pytest.raises(SettingsFault, match=r"MEDX_UNCERTAIN_MARGIN|UNCERTAIN_MARGIN"):
        settings()


def test_the_database_lies_under_home_unless_a_url_is_given(tmp_path, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert Settings(home=tmp_path).database == f"sqlite:///{tmp_path / 'medx.sqlite3'}"
    monkeypatch.setenv("DATABASE_URL", "postgresql://medx@db/medx")
    assert Settings(home=tmp_path).database == "postgresql://medx@db/medx"
