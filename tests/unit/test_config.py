"""Settings: the environment over .env, and every fault named at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from doppel.config import Settings, interval_seconds, load_settings, secret_variables, variable
from doppel.errors import ConfigError
from doppel.models.hub import revision


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


SECRETS = secret_variables()


def test_every_setting_that_is_a_secret_is_known_as_one() -> None:
    assert {name for name in map(variable, Settings.model_fields) if re.search("SECRET|TOKEN$|KEYS?$", name)} <= {
        *SECRETS
    }
    assert {"DOPPEL_DATABASE_URL", "DOPPEL_VLLM_API_KEY", "DOPPEL_TOKEN_KEYS"} <= {*SECRETS}


def written(name: str, secret: str) -> str:
    return f"postgresql://ann:{secret}@db/x" if name == "DOPPEL_DATABASE_URL" else secret


@pytest.mark.parametrize("name", SECRETS)
def test_white_space_around_a_secret_is_none_of_it(name: str) -> None:
    settings = load_settings({name: f" \t{written(name, 's3cret')}\r\n"})
    kept = getattr(settings, name.removeprefix("DOPPEL_").lower()).get_secret_value()
    assert kept == written(name, "s3cret")


@pytest.mark.parametrize("sign", [" ", "\n", "\t", "\x00", "\x7f", "\u2028", "\u200b", "\udcff"])
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_no_header_takes_is_refused_without_its_value(name: str, sign: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({name: written(name, f"s3{sign}cret")})
    assert str(caught.value).startswith(f"{name} has a space, a line break or another character")
    assert "cret" not in str(caught.value).replace("no secret", "")


def test_a_key_that_was_cut_off_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^SLACK_BOT_TOKEN has a letter in it that no key has, or was cut off"):
        load_settings({"SLACK_BOT_TOKEN": "xoxb-1…"})


def test_keys_may_stand_apart() -> None:
    assert load_settings({"DOPPEL_TOKEN_KEYS": "one, two ,\nthree"}).token_keys.get_secret_value() == "one,two,three"


def test_no_fault_repeats_a_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({}, slack_bot_token=["s3cret"])
    assert str(caught.value).startswith("SLACK_BOT_TOKEN is wrong: ")
    assert "s3cret" not in str(caught.value)


def test_a_token_of_the_hub_that_no_header_takes_is_refused_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3\x01cret")
    with pytest.raises(ConfigError, match=r"^HF_TOKEN has a space") as caught:
        revision("nobody/has-this", "base model", "DOPPEL_BASE_MODEL")
    assert "cret" not in str(caught.value).replace("no secret", "")
