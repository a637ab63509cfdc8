"""What a result file's head says: machine, versions, command, date, and that other jobs ran beside it or not."""

import datetime
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def head(*packages: str) -> None:
    """Print the head lines of a result file; the load is that of the minute before the run."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    told = " ".join(f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "XLA_FLAGS") if name in os.environ)
    print(f"# {told} python benchmarks/{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}".replace("#  ", "# ").rstrip())
    print(f"# {names[0] if names else platform.machine()}, {os.cpu_count()} cores; {datetime.date.today().isoformat()}")
    print(f"# Python {platform.python_version()}, {versions}")
    load = os.getloadavg()[0]
    beside = "other jobs ran beside it: times are upper bounds" if load > 0.5 else "nothing else ran at its start"
    print(f"# load {load:.1f} in the minute before the start; {beside}", flush=True)
