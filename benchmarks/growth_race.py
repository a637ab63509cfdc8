"""How soon a network that was grown by one unit is better: seven ways, two optimisers, three activations.

    python benchmarks/growth_race.py > benchmarks/results/growth_race.txt

Escape gains nothing where no block has a negative eigenvalue and no new unit a gradient, as at zero loss.

300 digits (64 inputs, cross entropy), 64-5-10, trained by 300 steps of Adam (0.01, full batch), then grown to 6 units.
What can be gained is the loss before growing less the lowest loss that any way of the same seed and optimiser reached
within the race. Each way then goes on with plain gradient descent (rate 0.1, 1500 steps) or with Adam (0.01, moments
from zero, 400 steps), on the full batch. Cells: the median of five seeds of the first step at which the loss lay below
10, 50 and 90 % of the gain; "-": the median seed did not within the race.
"start" is the median of the loss right after growing over that before. "escape": the better of split and birth, with
line searches; "copy + noise": equal shares, noise of 1 % of the parameters' norm; "shares + noise": shares 0.7 and 0.3,
the same noise; "random unit": fed at random, as strong as the layer's own, sending nothing; "birth, no step": fed as
its gradient is largest (as GradMax), sending nothing; "from scratch": 64-6-10 from a fresh start, without the
300 steps that the others had before.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from machine import head

import saddlescope as ss
from saddlescope.exchanges.births import steepest_birth
from saddlescope.exchanges.blocks import Places
from saddlescope.precision import float64
from saddlescope.resize.expand import expand as expand_alike

SEEDS, SAMPLES, UNITS, BEFORE, STEPS = 5, 300, 5, 300, {"descent": 1500, "adam": 400}
RATES, SHARES, NOISE = {"descent": 0.1, "adam": 0.01}, (0.1, 0.5, 0.9), 0.01
WAYS = ("escape", "copy + noise", "shares + noise", "random unit", "birth, no step", "from scratch")


def trainer(problem: ss.Problem, optimiser: str, steps: int) -> Any:
    """Return a program that trains from a vector: the losses of all steps, the start's first, and the end."""

    def step(state: Any, k: Any) -> Any:
        theta, m, v = state
        loss, g = problem.value_and_gradient(theta)
        if optimiser == "descent":
            return (theta - RATES["descent"] * g, m, v), loss
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        ahead = (m / (1 - 0.9 ** (k + 1))) / (jnp.sqrt(v / (1 - 0.999 ** (k + 1))) + 1e-8)
        return (theta - RATES["adam"] * ahead, m, v), loss

    def run(theta: Any) -> Any:
        state = (theta, jnp.zeros_like(theta), jnp.zeros_like(theta))
        (end, _, _), losses = jax.lax.scan(step, state, jnp.arange(float(steps)))
        return losses, end

    return jax.jit(run)


def starts(problem: ss.Problem, wide: ss.Problem, params: Any, seed: int) -> tuple[dict[str, Any], Any]:
    """Return the grown parameters of every way, and the record of the escape."""
    rng = np.random.default_rng(seed)
    layout = wide.network.layout
    found = ss.expand(problem, params, {1: UNITS + 1}, escape=True, seed=seed)

    def noisy(grown: Any) -> dict[str, np.ndarray]:
        theta = np.asarray(layout.flatten(grown))
        noise = rng.normal(size=theta.size)
        return layout.unflatten_numpy(theta + NOISE * np.linalg.norm(theta) * noise / np.linalg.norm(noise))

    def born(incoming: np.ndarray) -> dict[str, np.ndarray]:
        group = ss.ZeroGroup(1, incoming, np.zeros((1, 10)))
        return expand_alike(problem, params, zero_type={1: [group]}).parameters

    unit = int(rng.integers(UNITS))
    own = problem.network.neurons(1).incoming_vectors(params)
    drawn = rng.normal(size=own.shape[1])
    drawn *= np.sqrt(np.mean(np.sum(own**2, axis=1))) / np.linalg.norm(drawn)
    with float64():
        theta = problem.network.layout.flatten(params)
        steepest = steepest_birth(problem, Places.of(problem, 1), theta, seed).incoming
    ways = {
        "escape": found.parameters,
        "copy + noise": noisy(expand_alike(problem, params, copies={(1, unit): 2}).parameters),
        "shares + noise": noisy(expand_alike(problem, params, shares={(1, unit): (0.7, 0.3)}).parameters),
        "random unit": born(drawn),
        "birth, no step": born(steepest),
        "from scratch": wide.network.initial(1000 + seed),
    }
    return ways, found


def passed(losses: np.ndarray, target: float) -> float:
    """Return the first step at which the loss lies below; infinity where none does."""
    below = np.flatnonzero(losses <= target)
    return float(below[0]) if len(below) else np.inf


def race(activation: str, data: ss.Data) -> None:
    """Print the table of one activation."""
    problem = ss.Problem(ss.MLP((64, UNITS, 10), activation), data, loss="cross_entropy")
    wide = ss.Problem(ss.MLP((64, UNITS + 1, 10), activation), data, loss="cross_entropy")
    with float64():
        first = trainer(problem, "adam", BEFORE)
        races = {name: trainer(wide, name, STEPS[name]) for name in STEPS}
    grown, taken, promises = [], [], []
    for seed in range(SEEDS):
        with float64():
            flat = problem.network.layout.flatten(problem.network.initial(seed))
            params = problem.network.layout.unflatten_numpy(np.asarray(first(flat)[1]))
        ways, found = starts(problem, wide, params, seed)
        grown.append((problem.loss_of(params), ways))
        for one in found.grown:
            taken.append(one.taken)
            offers = {offer.family: offer for offer in (one.split, one.birth) if offer is not None}
            promises.append({k: (o.promise, one.loss_before - o.loss) for k, o in offers.items()})
    print(f"\n## {activation}: taken {taken.count('split')} splits, {taken.count('birth')} births")
    for family in ("split", "birth"):
        both = [one[family] for one in promises if family in one and one[family][0] is not None]
        told = ", ".join(f"{promise:.4f}/{gain:.4f}" for promise, gain in both)
        print(f"# {family}: promised/gained by the line search: {told}")
    print(f"{'way':<16}{'start':>8}" + "".join(f"{f'{name} {s:.0%}':>14}" for name in races for s in SHARES))
    cells: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for before, ways in grown:
        with float64():
            curves = {
                (way, name): np.asarray(run(wide.network.layout.flatten(ways[way]))[0])
                for way in WAYS
                for name, run in races.items()
            }
        best = {name: min(curves[way, name].min() for way in WAYS) for name in races}
        for way in WAYS:
            reached = [
                passed(curves[way, name], before - share * (before - best[name])) for name in races for share in SHARES
            ]
            cells[way].append([curves[way, "descent"][0] / before, *reached])
    for way in WAYS:
        start, *rest = np.median(np.array(cells[way]), axis=0)
        row = "".join(f"{'-' if np.isinf(k) else f'{k:.0f}':>14}" for k in rest)
        print(f"{way:<16}{start:>8.3f}{row}", flush=True)


def main() -> None:
    """Print the tables."""
    head("jax", "numpy")
    begin = time.perf_counter()
    digits = ss.data.digits()
    data = ss.Data(digits.inputs[:SAMPLES], labels=digits.labels[:SAMPLES])
    for activation in ("tanh", "relu", "gelu"):
        race(activation, data)
    print(f"\n# {time.perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
