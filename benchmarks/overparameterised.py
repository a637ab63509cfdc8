"""Many students of one teacher, as in [S21]: how many of 50 seeds reach zero loss, and what their neurons became.

    python benchmarks/overparameterised.py --widths 4,5 --activations sigmoid > students.json

The data of docs/figures/overparameterised-training.json were made with the settings that stand beside each run there.
"""

import argparse
import json
import sys
import time
from collections import Counter

from saddlescope.records.schema import plain
from saddlescope.study.overparameterised import measure


def main() -> None:
    """Print one JSON document, and a line for each run on standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--widths", default="4,5,10,20")
    parser.add_argument("--activations", default="sigmoid,exp,sigmoid_softplus")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--adam-steps", type=int, default=2000)
    parser.add_argument("--limit", type=int, default=2000)
    options = parser.parse_args()
    runs = []
    for activation in options.activations.split(","):
        for width in map(int, options.widths.split(",")):
            settings = {"adam_steps": options.adam_steps, "limit": options.limit}
            began = time.perf_counter()
            run = measure(width, activation, options.seeds, **settings)
            seconds = time.perf_counter() - began
            runs.append({**run, "seconds": round(seconds, 1), "settings": settings})
            endings = dict(Counter(student["ending"] for student in run["students"]))
            sys.stderr.write(f"{activation} {width}: {endings}, {seconds:.0f} s\n")
    sys.stdout.write(json.dumps(plain({"runs": runs})) + "\n")


if __name__ == "__main__":
    main()
