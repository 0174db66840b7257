"""Settings: the environment over .env, and every fault named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from doppel.config import Settings, interval_seconds, load_settings
from doppel.errors import ConfigError


def test_the_environment_goes_over_the_file_and_options_over_both(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DOPPEL_TOP_K=3\nDOPPEL_SEED=7\nOTHER=1\n")
    settings = load_settings({"DOPPEL_TOP_K": "4"}, tmp_path / ".env", data_dir=tmp_path)
    assert (settings.top_k, settings.seed, settings.data_dir) == (4, 7, tmp_path)


def test_lists_and_dicts_are_json() -> None:
    environ = {"DOPPEL_LORA_OPTIONS": '{"use_rslora": true}', "DOPPEL_VLLM_OPTIONS": '["--seed", "1"]'}
    settings = load_settings(environ)
    assert settings.lora_options == {"use_rslora": True}
    assert settings.vllm_options == ["--seed", "1"]


def test_all_faults_are_named_together() -> None:
    environ = {"DOPPEL_TOPK": "3", "DOPPEL_TOP_P": "7", "DOPPEL_LORA_OPTIONS": "{"}
    with pytest.raises(ConfigError) as caught:
        load_settings(environ)
    assert all(name in str(caught.value) for name in environ)


@pytest.mark.parametrize(("text", "seconds"), [("", None), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400)])
def test_an_interval_is_a_number_and_a_unit(text: str, seconds: float | None) -> None:
    assert interval_seconds(load_settings({"DOPPEL_SYNC_EVERY": text}).sync_every) == seconds


@pytest.mark.parametrize("text", ["15", "m", "0m", "1.5h", "-1d", "1w", "daily"])
def test_a_wrong_interval_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^DOPPEL_REINDEX_EVERY is no interval: write a number and a unit"):
        load_settings({"DOPPEL_REINDEX_EVERY": text})


@pytest.mark.parametrize("name", ["DOPPEL_TRAIN_EPOCHS", "DOPPEL_TRAIN_MINUTES", "DOPPEL_TEMPERATURE"])
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_a_number_is_finite(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}='{text}' is wrong: input should be a finite number"):
        load_settings({name: text})


def test_settings_cannot_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().top_k = 5


@pytest.mark.parametrize("url", ["postgresql://ann:s3cret@db/doppel", "postgres://ann:s3cret@db/doppel", ""])
def test_the_archive_is_in_postgres_or_in_the_data_folder(url: str, tmp_path: Path) -> None:
    settings = load_settings({"DOPPEL_DATABASE_URL": url}, data_dir=tmp_path)
    assert settings.archive_at == (url or tmp_path / "archive.db")
    assert "s3cret" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    "url", ["mysql://ann:s3cret@db/doppel", "ann:s3cret@db", "sqlite:///s3cret", "postgresql:s3cret"]
)
def test_a_database_of_another_kind_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"DOPPEL_DATABASE_URL": url})
    assert str(caught.value) == "DOPPEL_DATABASE_URL must begin with postgresql://, or be empty for SQLite."
