"""The main job on the sample workspace, step by step: `make demo`. Nothing is done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APP = [sys.executable, str(ROOT / "app.py")]
WORKSPACE = ROOT / "examples" / "sample-workspace"
PERSONA = "ines"

MINUTES = "4"
"""Of training: less than by default where two cores do it, to keep the first run short."""

ANSWER_TOKENS = "96"
"""Of an answer at most, for it to end within seconds on a CPU; this model's longer ones ramble."""

QUESTIONS = ["Why is the gate app offline-first?", "Why did we drop Kafka?", "How do I restore from a backup?"]
"""What the page offers for a click."""

TO_TRY = """
Three things to try:
  1. In the web chat at http://127.0.0.1:7860, ask ines: why did we drop Kafka?
  2. In a terminal: .venv/bin/doppel chat --persona ines -m "How do I restore from a backup?"
  3. Search the team's words: .venv/bin/doppel search "who owns billing" -k 3
(For 2 and 3: export DOPPEL_DATA_DIR={data_dir})
"""


def main() -> None:
    """Import, index, train, and serve unless told --no-serve."""
    if sys.argv[1:] not in ([], ["--no-serve"]):
        sys.exit("The demo knows one option: --no-serve.")
    step("1/4 Importing the sample workspace", "import", str(WORKSPACE))
    step("2/4 Indexing it", "reindex")
    if serving_version() is None:
        step("3/4 Recording that the fictional Ines agreed", "consent", "grant", PERSONA, "--by", "make demo")
        training = ("train", "--user", PERSONA, "--minutes", MINUTES)
        step(f"    Training her adapter on the CPU (once, about {MINUTES} minutes)", *training)
    else:
        print("3/4 The adapter of Ines is trained already.", flush=True)
    print(TO_TRY.format(data_dir=Path(os.environ["DOPPEL_DATA_DIR"]).resolve()), flush=True)
    if sys.argv[1:] == []:
        print("4/4 Serving: the page is there before vLLM is, and says when it is ready; Ctrl-C ends it.", flush=True)
        os.environ.setdefault("DOPPEL_WEB_EXAMPLES", json.dumps(QUESTIONS))
        os.environ.setdefault("DOPPEL_ANSWER_TOKENS", ANSWER_TOKENS)
        os.execv(sys.executable, [*APP, "serve"])


def step(what: str, *command: str) -> None:
    """Run one command of Doppel; end where it fails."""
    print(what, flush=True)
    status = subprocess.run([*APP, *command], check=False).returncode
    if status:
        sys.exit(status)


def serving_version() -> str | None:
    """The version of the persona's adapter that serves, if there is one."""
    found = subprocess.run([*APP, "personas", "--json"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    rows = json.loads(found.stdout)["personas"]
    return next((row["version"] for row in rows if row["handle"] == PERSONA), None)


if __name__ == "__main__":
    main()
