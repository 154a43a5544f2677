"""How long ago this process started."""

import os
import time
from pathlib import Path

_STAT, _UPTIME = Path("/proc/self/stat"), Path("/proc/uptime")
_START_FIELD = 19
"""Of the fields after the command's name: the start in clock ticks after the system's."""


def process_age() -> float:
    """Seconds since this process started; where the system does not say, its processor time."""
    try:
        ticks = int(_STAT.read_text().rpartition(")")[2].split()[_START_FIELD])
        uptime = float(_UPTIME.read_text().split()[0])
    except OSError:
        return time.process_time()
    return max(0.0, uptime - ticks / os.sysconf("SC_CLK_TCK"))
