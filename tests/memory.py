"""How much memory a command of Doppel's takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Not ru_maxrss: a new process begins with what its parent had.
_COMMAND = """
import atexit, re, sys
from pathlib import Path

def tell():
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1], file=sys.stderr)

atexit.register(tell)
from app import app
app()
"""


def peak_of(*words: str) -> tuple[float, str]:
    """The most memory that a command had at once, in MiB, and what it printed."""
    command = [sys.executable, "-c", _COMMAND, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1]) / 1024, done.stdout
