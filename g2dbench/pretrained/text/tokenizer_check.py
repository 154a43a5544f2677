"""Tries a stranger's tokenizer.json in a process of its own.

The library is written in Rust: a broken file may panic, which no `except Exception` catches, or
abort the process. It costs a tenth of a second for each file, once.
"""

import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from g2dbench.errors import BadData
from g2dbench.system.files import file_digest

MAX_BYTES = 64 << 20
SECONDS = 30

_TRIAL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1])
tokenizer.enable_truncation(64)
tokenizer.enable_padding()
texts = ["", "a", "No focal consolidation [MASK], 2.5 cm.", "\\u00e9 \\U0001f600\\n"]
texts.append("ab " * 400)
tokenizer.encode_batch(texts)
for text in texts:
    tokenizer.decode(tokenizer.encode(text).ids)
print("fine")
"""


def check_tokenizer(file: Path) -> None:
    """BadData if the library cannot load the file and encode texts with it, whatever it does."""
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        raise BadData(f"{file} is no tokenizer: no regular file of at most {MAX_BYTES:,} bytes")
    if fault := _try(str(file), file_digest(file)):
        raise BadData(f"{file} is not a readable tokenizer: {fault}")


@lru_cache(maxsize=64)
def _try(file: str, digest: str) -> str:
    """What goes wrong with a file; "" if nothing does. digest: of its bytes, for the cache."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL, file],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"},
        )
    except subprocess.TimeoutExpired:
        return f"it takes more than {SECONDS} seconds"
    if done.returncode == 0 and done.stdout.strip() == "fine":
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip() and line[:5] != "note:"]
    said = lines[-1][:300] if lines else "no message"
    return f"{said} (exit {done.returncode})"
