"""The axes of a whole computation, equation by equation, and what marks them: heads, channels, a residual stream."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal

from saddlescope.models.axes import Atom, Term, Terms, fix_all, fresh, length, resolve, size, unify
from saddlescope.models.axes_rules import ALIASES, CONTRACTIONS, outputs_of

CALLS = frozenset(
    [
        "jit",
        "pjit",
        "closed_call",
        "core_call",
        "custom_jvp_call",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
        "remat",
        "remat2",
        "checkpoint",
        "custom_lin",
        "core_closed_call",
    ]
)


@dataclass(frozen=True)
class Place:
    """Where a group's units lie: unit i owns ``before`` blocks of ``after`` entries along an axis of an array.

    Block b of unit i begins at ``start + (b * units + i) * after``.
    """

    name: str
    axis: int
    start: int
    before: int
    after: int


@dataclass(frozen=True)
class Found:
    """A free atom: as many units, the places where they lie in order of use, and the marks that operations left."""

    units: int
    places: tuple[Place, ...]
    marks: frozenset[str]


class _Node(NamedTuple):
    """A value on the way: its axes, and which values of the data it comes from, straight or through a contraction."""

    terms: Terms
    number: int  # 0: not of the data
    seen: int
    crossed: int


@dataclass
class _Trace:
    """What is noted while a computation is read."""

    marked: list[tuple[str, Term]] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    names: dict[int, str] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    count: int = 0
    operations: int = 0


def free_groups(function: Callable[..., Any], arrays: Mapping[str, Any], *inputs: Any) -> tuple[tuple[Found, ...], int]:
    """Return what may be interchanged in ``function(arrays, *inputs)``, in order of use, and its number of operations.

    Only float arrays hold units. Nothing is proved here: trying decides.
    """
    names = list(arrays)
    closed = jax.make_jaxpr(lambda given, *data: function(dict(zip(names, given, strict=True)), *data))(
        [arrays[name] for name in names], *inputs
    )
    trace, terms = _Trace(), {name: [fresh(n) for n in np.shape(arrays[name])] for name in names}
    trace.names = {id(value): name for name, value in terms.items()}
    nodes = [_Node(terms[name], 0, 0, 0) for name in names]
    for value in inputs:
        nodes.append(_datum(trace, [fresh(n, fixed=True) for n in np.shape(value)]))
    outputs = _run(trace, closed.jaxpr, [_constant(value) for value in closed.consts], nodes)
    for node in outputs:
        fix_all(node.terms)
    return _collected(trace, {name: terms[name] for name in names if np.asarray(arrays[name]).dtype.kind == "f"})


def _collected(trace: _Trace, terms: Mapping[str, Terms]) -> tuple[tuple[Found, ...], int]:
    found: dict[int, tuple[Atom, list[Place], set[str]]] = {}
    for name in sorted(terms, key=lambda name: trace.uses.get(name, trace.count)):
        for axis, term in enumerate(terms[name]):
            start = 0
            for segment in resolve(term):
                before = 1
                for k, atom in enumerate(segment):
                    after = length(segment[k + 1 :])
                    if not atom.fixed and atom.size > 1:
                        entry = found.setdefault(id(atom), (atom, [], set()))
                        entry[1].append(Place(name, axis, start, before, after))
                    before *= atom.size
                start += length(segment)
    for mark, term in trace.marked:
        for segment in resolve(term):
            for atom in segment:
                if id(atom) in found:
                    found[id(atom)][2].add(mark)
    _mark_within(terms, found)
    return tuple(
        Found(a.size, tuple(places), frozenset(marks)) for a, places, marks in found.values()
    ), trace.operations


def _mark_within(terms: Mapping[str, Terms], found: Mapping[int, tuple[Atom, list[Place], set[str]]]) -> None:
    """Mark the atoms that stand beside a heads' atom in a product: units within a head."""
    for one in terms.values():
        for segment in (segment for term in one for segment in resolve(term)):
            heads = [atom for atom in segment if id(atom) in found and "heads" in found[id(atom)][2]]
            for atom in segment:
                if heads and id(atom) in found and atom not in heads:
                    found[id(atom)][2].add("within")


def _datum(trace: _Trace, terms: Terms, seen: int = 0, crossed: int = 0) -> _Node:
    trace.count += 1
    return _Node(terms, trace.count, seen | 1 << trace.count, crossed)


def _constant(value: Any) -> _Node:
    """An axis of a constant is free only where the constant does not depend on it."""
    array, terms = np.asarray(value), []
    for axis, n in enumerate(array.shape):
        same = n > 0 and bool(np.all(array == np.take(array, [0], axis)))
        terms.append(fresh(n, fixed=not same))
    return _Node(terms, 0, 0, 0)


def _run(trace: _Trace, jaxpr: Any, constants: list[_Node], arguments: list[_Node]) -> list[_Node]:
    known: dict[Any, _Node] = {}

    def read(variable: Any) -> _Node:
        return _constant(variable.val) if isinstance(variable, Literal) else known[variable]

    known.update(zip(jaxpr.constvars, constants, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))
    for equation in jaxpr.eqns:
        outputs = _step(trace, equation, [read(variable) for variable in equation.invars])
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _inner(trace: _Trace, inner: Any, nodes: list[_Node]) -> list[_Node]:
    if hasattr(inner, "jaxpr"):
        return _run(trace, inner.jaxpr, [_constant(value) for value in inner.consts], nodes)
    return _run(trace, inner, [], nodes)


def _step(trace: _Trace, equation: Any, nodes: list[_Node]) -> list[_Node]:
    name, p = equation.primitive.name, equation.params
    if name in CALLS:
        inner = next(p[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in p)
        return _inner(trace, inner, nodes)
    if name == "scan":
        return _scan(trace, p, nodes)
    if name == "cond":
        return _cond(trace, p, nodes)
    trace.operations += 1
    for node in nodes:
        if id(node.terms) in trace.names:
            trace.count += 1
            trace.uses.setdefault(trace.names[id(node.terms)], trace.count)
    _marks(trace, equation, nodes)
    results = outputs_of(equation, [node.terms for node in nodes])
    data = [node for node in nodes if node.number]
    seen, crossed = _union(node.seen for node in data), _union(node.crossed for node in data)
    if name in CONTRACTIONS:
        crossed |= seen
    if not data:
        return [_Node(terms, 0, 0, 0) for terms in results]
    if name in ALIASES:
        return [data[0]._replace(terms=terms) for terms in results]
    return [_datum(trace, terms, seen, crossed) for terms in results]


def _union(masks: Any) -> int:
    result = 0
    for mask in masks:
        result |= mask
    return result


def _marks(trace: _Trace, equation: Any, nodes: list[_Node]) -> None:
    """Note heads (products of data with data, batched), channels, and sums of a value with what was made of it."""
    name = equation.primitive.name
    if name == "dot_general" and all(node.number for node in nodes):
        batch = equation.params["dimension_numbers"][1]
        trace.marked += [("heads", nodes[0].terms[axis]) for axis in batch[0]]
        if len(batch[0]) > 1:  # samples and heads: what is left belongs to one head
            for node, axes in zip(nodes, batch, strict=True):
                trace.marked += [("within", term) for axis, term in enumerate(node.terms) if axis not in axes]
    elif name == "conv_general_dilated":
        numbers = equation.params["dimension_numbers"]
        trace.marked.append(("channels", nodes[1].terms[numbers.rhs_spec[0]]))
        trace.marked.append(("channels", nodes[0].terms[numbers.lhs_spec[1]]))
    elif name in ("add", "add_any") and all(node.number for node in nodes):
        first, second = nodes
        if first.crossed >> second.number & 1 or second.crossed >> first.number & 1:
            trace.marked += [("residual", term) for term in first.terms]


def _scan(trace: _Trace, p: Mapping[str, Any], nodes: list[_Node]) -> list[_Node]:
    """Read the body once: what is carried on has the same axes before and after."""
    fixed, carried = p["num_consts"], p["num_carry"]
    rows = [node._replace(terms=node.terms[1:]) for node in nodes[fixed + carried :]]
    state = [node if node.number else _datum(trace, node.terms) for node in nodes[fixed : fixed + carried]]
    outputs = _inner(trace, p["jaxpr"], [*nodes[:fixed], *state, *rows])
    for before, after in zip(nodes[fixed : fixed + carried], outputs[:carried], strict=True):
        for one, other in zip(before.terms, after.terms, strict=True):
            unify(one, other)
    steps = fresh(p["length"], fixed=True)
    for node in nodes[fixed + carried :]:
        unify(node.terms[0], steps)
    return [*outputs[:carried], *(node._replace(terms=[steps, *node.terms]) for node in outputs[carried:])]


def _cond(trace: _Trace, p: Mapping[str, Any], nodes: list[_Node]) -> list[_Node]:
    """Whichever branch is taken, its result has the same axes."""
    branches = [_inner(trace, branch, nodes[1:]) for branch in p["branches"]]
    for outputs in branches[1:]:
        for one, other in zip(branches[0], outputs, strict=True):
            for first, second in zip(one.terms, other.terms, strict=True):
                if size(first) == size(second):
                    unify(first, second)
    return branches[0]
