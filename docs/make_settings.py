"""Write docs/settings.md from the settings themselves: `python docs/make_settings.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

sys.path.insert(0, str(Path(__file__).parent.parent))

from doppel.config import Settings, variable

HEAD = """# Settings

Each is an environment variable, or a line of a file `.env` in the folder where Doppel is started; the environment goes
before the file. A setting that isn't in this table is an error. Written by `python docs/make_settings.py`.

| setting | default | what it does |
| --- | --- | --- |
"""


def main() -> None:
    """Write the table."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "the platform's data folder" if field.default is PydanticUndefined else _shown(field.default)
        rows.append(f"| `{variable(name)}` | {default} | {field.description} |\n")
    Path(__file__).with_name("settings.md").write_text(HEAD + "".join(rows), encoding="utf-8")


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "empty" if value == "" else f"`{value if isinstance(value, str) else json.dumps(value)}`"


if __name__ == "__main__":
    main()
