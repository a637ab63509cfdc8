"""How much of its function a network loses by `reduce`: networks with almost redundant neurons, judged in long doubles.

    python benchmarks/reductions.py [CASES]          (1200 by default; writes benchmarks/results/reductions.txt)

Random networks get neurons that are nearly copies, multiples, sign twins, constants, silent, or groups of zero sum: off
by 1e-6 to 1e-15 relative to their size, or not at all, with outgoing weights of up to 1e9 that cancel. The outputs
before and after are computed by this file alone, in extended precision, on the data that `reduce` was given.
"""

import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

import saddlescope as ss

OUT = Path(__file__).parent / "results" / "reductions.txt"
SEED = 20261127
LONG = np.longdouble
FUNCTIONS = {
    "tanh": np.tanh,
    "sine": np.sin,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, LONG(0.01) * z),
    "sigmoid": lambda z: np.exp(-np.logaddexp(0, -z)),
    "softplus": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
    "silu": lambda z: z * np.exp(-np.logaddexp(0, -z)),
    "exp": np.exp,
    "identity": lambda z: z,
}
KINDS = ("copy", "silent", "constant", "zero group", "sign twin", "multiple")
OFF = (0.0, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15)
SIZES = (0.5, 3.0, 1e3, 1e6, 1e9)


def forward(network, parameters, inputs):
    """The network written down plainly, in long doubles."""
    here = inputs.astype(LONG)
    for k in range(network.depth):
        here = here @ parameters[f"{2 * k}.weight"].astype(LONG).T
        here = here + parameters[f"{2 * k}.bias"].astype(LONG) if network.bias else here
        here = FUNCTIONS[network.activation](here) if k < network.depth - 1 else here
    return here


def with_neurons(network, parameters, layer, incoming, outgoing):
    """Append neurons with these incoming rows (the bias last) and outgoing columns to a layer."""
    here, after = f"{2 * (layer - 1)}", f"{2 * layer}"
    wide = {name: value.copy() for name, value in parameters.items()}
    reach = wide[f"{here}.weight"].shape[1]
    wide[f"{here}.weight"] = np.vstack([wide[f"{here}.weight"], incoming[:, :reach]])
    if network.bias:
        wide[f"{here}.bias"] = np.concatenate([wide[f"{here}.bias"], incoming[:, reach]])
    wide[f"{after}.weight"] = np.hstack([wide[f"{after}.weight"], outgoing])
    widths = list(network.widths)
    widths[layer] += len(incoming)
    return replace(network, widths=tuple(widths)), wide


def almost_redundant(generator, network, parameters, layer, kind, off, big):
    """Return the network with one or two neurons more, redundant but for ``off``."""
    here, after = f"{2 * (layer - 1)}", f"{2 * layer}"
    rows = parameters[f"{here}.weight"]
    rows = np.hstack([rows, parameters[f"{here}.bias"][:, None] if network.bias else np.zeros((len(rows), 1))])
    unit, outputs = int(generator.integers(len(rows))), parameters[f"{after}.weight"].shape[0]
    sent, own = parameters[f"{after}.weight"][:, unit].copy(), {n: v.copy() for n, v in parameters.items()}

    def near(row):
        nudge = generator.normal(size=len(row))
        nudge[-1] = nudge[-1] if network.bias else 0.0
        return row + off * np.linalg.norm(row) * nudge / np.linalg.norm(nudge)

    if kind == "silent":
        return with_neurons(network, own, layer, near(rows[unit])[None] * 1.7, off * big * sent[:, None])
    if kind == "constant":
        row = off * near(rows[unit])
        row[-1] = 0.3 if network.bias else 0.0
        return with_neurons(network, own, layer, row[None], big * sent[:, None])
    if kind == "zero group":
        row = generator.normal(size=len(rows[unit]))
        row[-1] = row[-1] if network.bias else 0.0
        out = big * generator.normal(size=(outputs, 1))
        return with_neurons(network, own, layer, np.stack([row, near(row)]), np.hstack([out, -out]))
    factor = {"copy": 1.0, "sign twin": -1.0, "multiple": 2.5}[kind]
    own[f"{after}.weight"][:, unit] = (1.0 - big) * sent
    return with_neurons(network, own, layer, near(factor * rows[unit])[None], big / factor * sent[:, None])


def one(generator, number):
    """Return a case's row: kind, off, whether neurons went or stayed by name, and the loss over the tolerance."""
    activation = sorted(FUNCTIONS)[number % len(FUNCTIONS)]
    hidden = 1 + int(generator.integers(3)) if activation != "exp" else 1
    widths = (2, *(int(w) for w in generator.integers(2, 5, size=hidden)), 1 + int(generator.integers(3)))
    network = ss.MLP(widths, activation, bias=bool(generator.random() < 0.8))
    parameters = {n: generator.normal(size=v.shape) for n, v in network.initial(0).items()}
    kinds, off = [], float(generator.choice(OFF))
    for _ in range(1 + int(generator.integers(3))):
        kinds.append(str(generator.choice(KINDS)))
        layer, big = 1 + int(generator.integers(hidden)), float(generator.choice(SIZES))
        network, parameters = almost_redundant(generator, network, parameters, layer, kinds[-1], off, big)
    last = f"{2 * hidden}.weight"  # outputs of different units: each is judged by its own size
    parameters[last] = parameters[last] * 10.0 ** generator.uniform(-4, 4, size=(widths[-1], 1))
    inputs = generator.normal(size=(300, 2)) * 10.0 ** generator.uniform(-1, 1, size=2)
    tolerance = float(generator.choice([1e-9, 1e-6]))
    found = ss.reduce(network, parameters, inputs, tolerance=tolerance)
    before, after = forward(network, parameters, inputs), forward(found.network, found.parameters, inputs)
    if not np.isfinite(before.astype(float)).all():
        return None
    changes, sizes = np.abs(after - before).max(axis=0), np.abs(before).max(axis=0)
    loss = float(np.max(np.where(changes == 0, 0, changes / np.where(sizes > 0, sizes, np.finfo(LONG).tiny))))
    return kinds, off, bool(found.removed), bool(found.refused), loss / tolerance, found.output_loss / tolerance


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1200
    generator, began, rows, skipped = np.random.default_rng(SEED), time.perf_counter(), [], Counter()
    for number in range(count):
        try:
            row = one(generator, number)
        except ss.SaddlescopeError as error:
            skipped[type(error).__name__] += 1
            continue
        if row is None:
            skipped["not finite"] += 1
        else:
            rows.append(row)
    losses = np.array([row[4] for row in rows])
    lines = [
        f"python benchmarks/reductions.py {count}   (seed {SEED}, {time.perf_counter() - began:.0f} s)",
        f"{len(rows)} networks with almost redundant neurons; not counted: {dict(skipped) or 'none'}",
        f"neurons removed in {sum(r[2] for r in rows)}, some refused by name in {sum(r[3] for r in rows)}",
        f"loss of function over the stated tolerance, own arithmetic: largest {losses.max():.6f}, "
        f"above 1: {int(np.sum(losses > 1.0))}",
        f"the same as reduce says (output_loss / tolerance): largest {max(r[5] for r in rows):.6f}",
        "",
        "off by       cases  removed  refused  largest loss / tolerance",
    ]
    for off in OFF:
        mine = [row for row in rows if row[1] == off]
        if mine:
            lines.append(
                f"{off:<11.0e} {len(mine):6d} {sum(r[2] for r in mine):8d} {sum(r[3] for r in mine):8d}  "
                f"{max(r[4] for r in mine):.3g}"
            )
    text = "\n".join(lines) + "\n"
    OUT.write_text(text, "utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
