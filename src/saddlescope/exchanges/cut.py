"""A network cut where a layer's outgoing weights are read, in its own shapes (science notes, 9.1).

Let z be what the operations give that join something fed by the units with their outgoing weights, and d = dL/dz the
loss's whole derivative by it. Then the antisymmetric blocks of all copied units are the diagonal blocks of the Hessian
of S(units) = <d, z(units)> with outgoing entries halved, d and all z that later operations read held fixed: what a copy
and its twin do with opposite signs changes z to second order only, so that the rest of the network answers linearly.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun
from jaxtyping import Array

from saddlescope.arrays import Layout
from saddlescope.models.tracing import CALLS
from saddlescope.models.units import Units

NEITHER, FED, WEIGHTS = 0, 1, 2
"""Roles of a value: it depends on the units' incoming arrays, on their outgoing ones, or on neither, up to the cuts."""


class Site(NamedTuple):
    """The operation at a cut: its equation, the values that it joins, and their roles."""

    equation: Any
    values: list[Any]
    roles: list[int]


AtCut = Callable[[list[Any], Site], list[Any]]
"""What is done at a cut: its values in, the values that the rest of the network reads out."""


class NoCutError(Exception):
    """A computation that cannot be cut, with the reason."""


def run(
    apply: Callable[..., Any], arrays: dict[str, Array], rows: Array, units: Units, at_cut: AtCut
) -> Any:  # outputs of the network
    """Return the outputs of ``apply(arrays, rows)``, the values at each cut replaced by what ``at_cut`` returns.

    Raises:
        NoCutError: a loop of unknown length or a branch joins units and their outgoing weights, or nothing does.
    """
    names = list(arrays)
    closed, shape = jax.make_jaxpr(lambda given, x: apply(dict(zip(names, given, strict=True)), x), return_shape=True)(
        list(arrays.values()), rows
    )
    incoming, outgoing = ({piece.name for piece in pieces} for pieces in (units.incoming, units.outgoing))
    if incoming & outgoing:
        raise NoCutError(f"{sorted(incoming & outgoing)[0]} both feeds the units and reads them")
    roles = [FED if name in incoming else WEIGHTS if name in outgoing else NEITHER for name in names]
    outputs, _ = _run(closed.jaxpr, closed.consts, [*arrays.values(), rows], [*roles, NEITHER], at_cut)
    return jax.tree.unflatten(jax.tree.structure(shape), outputs)


def _run(
    jaxpr: Jaxpr, constants: Sequence[Any], values: Sequence[Any], roles: Sequence[int], at_cut: AtCut
) -> tuple[list[Any], list[int]]:
    known: dict[Any, tuple[Any, int]] = dict(zip(jaxpr.constvars, ((c, NEITHER) for c in constants), strict=True))
    known.update(zip(jaxpr.invars, zip(values, roles, strict=True), strict=True))

    def read(variable: Any) -> tuple[Any, int]:
        return (variable.val, NEITHER) if isinstance(variable, Literal) else known[variable]

    for equation in jaxpr.eqns:
        given = [read(variable) for variable in equation.invars]
        outputs, told = _step(jaxpr, equation, [v for v, _ in given], [r for _, r in given], at_cut)
        known.update(zip(equation.outvars, zip(outputs, told, strict=True), strict=True))
    results = [read(variable) for variable in jaxpr.outvars]
    return [value for value, _ in results], [role for _, role in results]


def _step(
    jaxpr: Jaxpr, equation: Any, values: list[Any], roles: list[int], at_cut: AtCut
) -> tuple[list[Any], list[int]]:
    name, options = equation.primitive.name, equation.params
    if not {FED, WEIGHTS} <= set(roles):
        return _whole(jaxpr, equation, values), [max(roles, default=NEITHER)] * len(equation.outvars)
    if name in CALLS:
        inner = next(options[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in options)
        plain, constants = (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, [])
        return _run(plain, constants, values, roles, at_cut)
    if name == "scan":
        return _unrolled(options, values, roles, at_cut)
    if name in ("while", "cond"):
        raise NoCutError(f"units and their outgoing weights meet inside a {name}")
    outputs = at_cut(_whole(jaxpr, equation, values), Site(equation, values, roles))
    return outputs, [NEITHER] * len(outputs)


def _whole(jaxpr: Jaxpr, equation: Any, values: list[Any]) -> list[Any]:
    """Return the values of one equation as it stands."""
    pairs = zip(equation.invars, values, strict=True)
    given = dict(pair for pair in pairs if not isinstance(pair[0], Literal))
    own = jaxpr.replace(constvars=[], invars=list(given), outvars=list(equation.outvars), eqns=[equation])
    return list(jaxpr_as_fun(ClosedJaxpr(own, []))(*given.values()))


def _unrolled(
    options: dict[str, Any], values: list[Any], roles: list[int], at_cut: AtCut
) -> tuple[list[Any], list[int]]:
    """Run a loop of known length, such as one over stacked layers, step by step."""
    fixed, carried, length = options["num_consts"], options["num_carry"], options["length"]
    state, told = values[fixed : fixed + carried], roles[fixed : fixed + carried]
    rows: list[list[Any]] = [[] for _ in equation_outputs(options)]
    kinds = [NEITHER] * len(rows)
    for step in range(length)[:: -1 if options["reverse"] else 1]:
        slices = [value[step] for value in values[fixed + carried :]]
        outputs, out_roles = _run(
            options["jaxpr"].jaxpr,
            options["jaxpr"].consts,
            [*values[:fixed], *state, *slices],
            [*roles[:fixed], *told, *roles[fixed + carried :]],
            at_cut,
        )
        state, told = outputs[:carried], out_roles[:carried]
        for k, value in enumerate(outputs[carried:]):
            rows[k].append(value)
            kinds[k] = max(kinds[k], out_roles[carried + k])
    stacked = [jnp.stack(row[:: -1 if options["reverse"] else 1]) for row in rows]
    return [*state, *stacked], [*told, *kinds]


def equation_outputs(options: dict[str, Any]) -> list[Any]:
    """Return what a scan's body gives for each step, beside what it carries on."""
    return options["jaxpr"].jaxpr.outvars[options["num_carry"] :]


def cut_values(apply: Callable[..., Any], arrays: dict[str, Array], rows: Array, units: Units) -> list[Array]:
    """Return the values at all cuts, in order.

    Raises:
        NoCutError: see `run`.
    """
    found: list[Array] = []

    def collect(values: list[Any], _: Site) -> list[Any]:
        found.extend(values)
        return values

    run(apply, arrays, rows, units, collect)
    if not found:
        raise NoCutError("nothing that the units feed meets their outgoing weights")
    return found


def pulls(
    apply: Callable[..., Any],
    arrays: dict[str, Array],
    rows: Array,
    units: Units,
    loss: Callable[[Any], Array],
) -> tuple[list[Array], list[Array]]:
    """Return dL/dz at all cuts, and z."""
    values = cut_values(apply, arrays, rows, units)

    def pushed(probes: list[Array]) -> Array:
        left = iter(probes)
        return loss(run(apply, arrays, rows, units, lambda given, _: [value + next(left) for value in given]))

    return jax.grad(pushed)([jnp.zeros_like(value) for value in values]), values


def fixed_cuts(
    apply: Callable[..., Any], arrays: dict[str, Array], rows: Array, units: Units, frozen: Sequence[Array]
) -> tuple[list[Array], Any]:
    """Return z where every later operation reads ``frozen`` in its place, and the outputs."""
    found: list[Array] = []

    def hold(values: list[Any], _: Site) -> list[Any]:
        start = len(found)
        found.extend(values)
        return list(frozen[start : len(found)])

    outputs = run(apply, arrays, rows, units, hold)
    return found, outputs


def with_entries(layout: Layout, theta: Array, places: Array, entries: Array) -> dict[str, Array]:
    """Return the named arrays of theta with the entries of all units put in."""
    return layout.unflatten(theta.at[places].set(entries))
