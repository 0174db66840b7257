"""Small tokenizers in the styles of well-known models, built here, each with its chat template."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXTS = [
    "We moved the billing jobs to the new queue on Monday; the old one stays until the end of the month.",
    "Ada: did the backup run last night?\nBob: yes, at 02:00, and it took 14 minutes.",
    "# Notes\n\n- item one\n- item two\n\nsystem user assistant model < > | / [ ] INST SYS",
    "start_of_turn im_end im_start think",
    *string.printable,
]

CHATML = """{%- for message in messages %}
{%- if message.role == 'assistant' and '</think>' in message.content %}
{{- '<|im_start|>assistant\n' + message.content.split('</think>')[-1] + '<|im_end|>\n' }}
{%- else %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}"""
INST = """{{- bos_token }}{%- for message in messages %}
{%- if message.role == 'system' %}{{- raise_exception('no system role') }}{%- endif %}
{%- if message.role == 'user' %}{{- '[INST] ' + message.content | trim + ' [/INST]' }}
{%- else %}{{- ' ' + message.content | trim + eos_token }}{%- endif %}{%- endfor %}"""
TURNS = """{{- bos_token }}{%- for message in messages %}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' + message.content | trim }}
{{- '<end_of_turn>\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"""
HEADINGS = """{%- for message in messages %}{%- if message.role == 'system' %}{{- message.content + '\n\n' }}
{%- elif message.role == 'user' %}{{- 'USER: ' + message.content + ' ' }}
{%- else %}{{- 'ASSISTANT: ' + message.content + eos_token }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- 'ASSISTANT:' }}{%- endif %}"""


def byte_level(folder: Path) -> Path:
    """Qwen's way: bytes, NFC, and markers of which some aren't special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(split, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>"])
    plain = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|fim_prefix|>"]
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in plain])
    return _saved(tokenizer, folder, CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def pieces(folder: Path) -> Path:
    """Llama 2's way: `▁` for a blank, bytes for what is unknown, turns in brackets that are text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=700, special_tokens=special))
    state = [AddedToken(word, special=True, normalized=False) for word in special[:3]]
    rebuilt = Tokenizer(tokenizer.model)
    rebuilt.normalizer = tokenizer.normalizer
    rebuilt.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    rebuilt.add_special_tokens(state)
    return _saved(rebuilt, folder, INST, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def unigram(folder: Path, template: str = TURNS) -> Path:
    """Gemma's and T5's way: NFKC, markers among the words, runs of line breaks as added tokens."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    special = ["<pad>", "<s>", "</s>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens([AddedToken(run, normalized=False) for run in ("\n\n", "<h1>", "▁▁")])
    return _saved(tokenizer, folder, template, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def headings(folder: Path) -> Path:
    """Vicuna's way: turns with headings that are text."""
    return unigram(folder, HEADINGS)


def _saved(tokenizer: Tokenizer, folder: Path, template: str, **tokens: Any) -> Path:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **tokens).save_pretrained(folder)
    return folder
