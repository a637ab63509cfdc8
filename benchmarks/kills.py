"""Real kills (SIGKILL) of eight commands on tiny problems, and what is left; options: number of kills, minutes.

Half of the kills come at a random time of the command's run, half just before a random one of its writes. After each:
is everything whole that stands under its own name; is the old result there, or the new; after the same command has run
again, is it well, equal in its files to a run without a kill, and is nothing else left? Once every command with an old
result (--overwrite), once without. No path, training or certificate is replaced by a stand-in.
python benchmarks/kills.py > benchmarks/results/kills.txt
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import head

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from references.dying import dying  # noqa: E402

STUDY = """
data = "d.npz"
[train]
widths = [2, 3, 1]
activation = "tanh"
adam_steps = 20
newton_steps = 2
[path]
layer = 1
pairs = [[0, 1], [1, 2]]
steps = 3
max_iterations = 2
[report]
"""
COMMANDS = {
    "train": "train --widths 2,3,1 --activation tanh --data d.npz --adam-steps 9 --newton-steps 2 --out o/t.st",
    "path": "path s.safetensors --data d.npz --layer 1 --pair 0,1 --steps 3 --max-iterations 2 --out o/p.saddle",
    "study": "study study.toml --out o/st",
    "walk": "walk run.saddle --to 4,2,0,1,3 --points 1 --out o/w.json",
    "shrink": "shrink s.safetensors --data d.npz --widths 1:2 --candidates 1 --finish 2 --out o/s.safetensors",
    "expand": "expand s.safetensors --widths 1:5 --data d.npz --out o/e.safetensors",
    "report": "report walk.json --out o/r.html",
    "reproduce": "reproduce counts --quick --out o/rc",
}


def _child(folder: Path, words: list[str], at: int = 0) -> int:
    """Run a command in a forked process, dead just before its ``at``-th write (0: never); return its id."""
    pid = os.fork()
    if pid:
        return pid
    os.chdir(folder)
    for number, name in ((0, "/dev/null"), (1, "/dev/null"), (2, str(folder / "stderr"))):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), number)
    from saddlescope.cli.main import run

    code = 99
    try:
        with dying(folder / "o", at, real=True) as counted:
            code = run(words)
        (folder / "writes").write_text(str(counted.count))
    finally:
        sys.stderr.flush()
        os._exit(code)


def _end(pid: int, limit: float = 120.0) -> int:
    """Wait for a process; return its exit code, negative for a signal."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -99


def _listing(folder: Path) -> list[str]:
    return sorted(str(place.relative_to(folder)) for place in folder.rglob("*"))


def _faults(out: Path) -> list[str]:
    """Return what stands under its own name and is not whole."""
    from safetensors.numpy import load_file

    from saddlescope.records.store import load_path

    def page(file: Path) -> None:
        if not file.read_text("utf-8").endswith("</html>\n"):
            raise ValueError("cut")

    readers: dict[str, Callable[[Path], object]] = {
        ".safetensors": load_file,
        ".st": load_file,
        ".json": lambda file: json.loads(file.read_text("utf-8")),
        ".html": page,
        ".saddle": load_path,
    }
    found = []
    for place in out.rglob("*"):
        if not any(part.startswith(".") for part in place.relative_to(out).parts) and place.suffix in readers:
            try:
                readers[place.suffix](place)
            except Exception as error:
                found.append(f"{place.name}: {type(error).__name__}: {error}")
    return found


def _base(folder: Path) -> None:
    """Make the inputs of all commands."""
    import saddlescope as ss

    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(24, 2))
    np.savez(folder / "d.npz", inputs=inputs, targets=np.sin(inputs[:, :1]) * inputs[:, 1:])
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    network = ss.MLP((2, 3, 1), "tanh")
    ss.save_weights(folder / "s.safetensors", network, network.initial(0))
    ss.save_weights(folder / "teach.safetensors", *ss.data.toy_teacher("tanh", 0))
    (folder / "o").mkdir()
    for command in (
        "path teach.safetensors --data toy --layer 1 --pair 3,4 --steps 8 --out run.saddle",
        "walk run.saddle --to 4,2,0,1,3 --points 1 --out walk.json",
    ):
        code = _end(_child(folder, command.split()))
        assert code == 0, (folder / "stderr").read_text()


def _try(base: Path, work: Path, name: str, generator: random.Random, old: bool, known: dict) -> tuple[str, list[str]]:
    """Kill a command once and judge what is left; return a line of the table, and what was wrong."""
    words = COMMANDS[name].split() + (["--overwrite"] if old else [])
    place = work / "case"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(known[name]["folder"] if old else base, place)
    timed = generator.random() < 0.5
    at = 0 if timed else generator.randint(1, known[name, old]["writes"])
    pid = _child(place, words, at)
    after = generator.uniform(0.02, 1.0) * known[name, old]["seconds"]
    if timed:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    code = _end(pid)
    left = [entry for entry in _listing(place / "o") if any(part.startswith(".") for part in Path(entry).parts)]
    wrong = _faults(place / "o")
    if old and not set(known[name]["listing"]) <= set(_listing(place / "o")):
        wrong.append("the old result was not all there")
    again = _end(_child(place, words))
    told = (place / "stderr").read_text().strip()
    had_ended = again == 2 and not old and ("the output exists" in told or "is finished" in told)
    if again not in (0, 1) and not had_ended:
        wrong.append(f"the same command again: exit {again}: {told[:200]}")
    if _listing(place / "o") != known[name]["listing"]:
        wrong.append(f"files differ: {sorted(set(_listing(place / 'o')) ^ set(known[name]['listing']))}")
    wrong += _faults(place / "o")
    moment = f"after {after:.1f} s" if timed else f"write {at} of {known[name, old]['writes']}"
    line = f"{name:10} {'old result' if old else 'nothing there':14} {moment:16} exit {code:3} hidden {len(left):2}"
    return f"{line}  again {again}: {'; '.join(wrong) or 'well'}", wrong


def main(kills: int = 60, minutes: float = 8.0) -> None:
    """Print a line a kill, then the sums."""
    head("saddlescope", "jax", "filelock")
    until, generator, seen = time.monotonic() + 60 * minutes, random.Random(0), Counter()
    with tempfile.TemporaryDirectory() as folder:
        base, known = Path(folder) / "base", {}
        base.mkdir()
        _base(base)
        for name, words in COMMANDS.items():  # without a kill: files, writes, seconds
            place = Path(folder) / name
            shutil.copytree(base, place)
            for old in (False, True):
                began = time.monotonic()
                code = _end(_child(place, words.split() + (["--overwrite"] if old else [])))
                assert code in (0, 1), (name, code, (place / "stderr").read_text())
                seconds = time.monotonic() - began
                known[name, old] = {"writes": int((place / "writes").read_text()), "seconds": seconds}
            known[name] = {"folder": place, "listing": _listing(place / "o")}
            assert not _faults(place / "o")
        for number in range(kills):
            if time.monotonic() > until:
                print(f"out of time after {number} kills")
                break
            name, old = list(COMMANDS)[number % len(COMMANDS)], number // len(COMMANDS) % 2 == 1
            line, wrong = _try(base, Path(folder), name, generator, old, known)
            print(f"{number + 1:3} {line}", flush=True)
            seen["wrong" if wrong else "well"] += 1
    print(f"{sum(seen.values())} kills: {seen['well']} well, {seen['wrong']} not")
    sys.exit(1 if seen["wrong"] else 0)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
