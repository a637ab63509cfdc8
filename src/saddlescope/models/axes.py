"""Axes as terms of atoms: which axes of all arrays of a computation must be permuted together.

A term is a list of segments laid end to end, a segment a list of atoms multiplied in row-major order. Operations unify
terms, cutting atoms as finely as needed; an operation that looks at positions fixes its atoms. An atom that stays free
is a set of interchangeable units, until trying says otherwise.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias


class Atom:
    """A factor of an axis; ``term`` binds it to something finer, ``fixed`` says that its positions matter."""

    def __init__(self, size: int, *, fixed: bool = False) -> None:
        """Make an atom that nothing is known of yet."""
        self.size = int(size)
        self.fixed = fixed
        self.term: Term | None = None


Segment: TypeAlias = list[Atom]
Term: TypeAlias = list[Segment]
Terms: TypeAlias = list[Term]


def fresh(size: int, *, fixed: bool = False) -> Term:
    """Return the term of an axis of which nothing is known."""
    return [[Atom(size, fixed=fixed)]]


def length(segment: Sequence[Atom]) -> int:
    """Return the number of entries of a segment."""
    return math.prod(atom.size for atom in segment)


def size(term: Term) -> int:
    """Return the number of entries of an axis."""
    return sum(length(segment) for segment in term)


def resolve(term: Term) -> Term:
    """Return the term with every bound atom replaced by what it is bound to, without factors of 1."""
    result: Term = []
    for segment in term:
        parts: Term = [[]]
        for atom in segment:
            fine = [[atom]] if atom.term is None else resolve(atom.term)
            if len(fine) == 1:
                parts = [[*part, *fine[0]] for part in parts]
            elif parts == [[]]:
                parts = [list(piece) for piece in fine]
            else:  # pieces end to end inside a product
                parts = [[*part, _whole(fine)] for part in parts]
        result += [[atom for atom in part if atom.size != 1] or [Atom(1, fixed=True)] for part in parts]
    return result


def _whole(term: Term) -> Atom:
    fix(term)
    return Atom(size(term), fixed=True)


def fix(term: Term) -> None:
    """Say that positions along this axis matter."""
    for segment in term:
        for atom in segment:
            if atom.term is not None:
                fix(atom.term)
            atom.fixed = True


def fix_all(terms: Terms) -> None:
    """Say that positions along all these axes matter."""
    for term in terms:
        fix(term)


def _bind(atom: Atom, term: Term) -> None:
    if any(other is atom for segment in term for other in segment):
        return
    if atom.fixed:
        fix(term)
    atom.term = term


def unify(first: Term, second: Term) -> None:
    """Say that two axes are one."""
    x, y = ([list(segment) for segment in resolve(term)] for term in (first, second))
    if size(x) != size(y):
        return
    i = j = 0
    while i < len(x) and j < len(y):
        m, n = length(x[i]), length(y[j])
        if m == n:
            _unify_segments(x[i], y[j])
            i, j = i + 1, j + 1
        elif m > n:
            x[i : i + 1] = _cut(x[i], n)
        else:
            y[j : j + 1] = _cut(y[j], m)


def _cut(segment: Segment, count: int) -> tuple[Segment, Segment]:
    """Cut a segment in two; a product can be cut between rows of its first factor only."""
    head, *rest = segment = resolve([segment])[0]
    row = length(rest)
    if count % row == 0:
        low, high = Atom(count // row), Atom(head.size - count // row)
        _bind(head, [[low], [high]])
        return [low, *rest], [high, *rest]
    fix([segment])
    return [Atom(count, fixed=True)], [Atom(length(segment) - count, fixed=True)]


def _unify_segments(first: Segment, second: Segment) -> None:
    p, q = ([atom for segment in resolve([part]) for atom in segment] for part in (first, second))
    while p and q:
        a, b = p[0], q[0]
        if a is b:
            p, q = p[1:], q[1:]
        elif a.size == b.size:
            _bind(a, [[b]])
            p, q = p[1:], q[1:]
        elif a.size > b.size and a.size % b.size == 0:
            rest = Atom(a.size // b.size)
            _bind(a, [[b, rest]])
            p, q = [rest, *p[1:]], q[1:]
        elif b.size % a.size == 0:
            rest = Atom(b.size // a.size)
            _bind(b, [[a, rest]])
            p, q = p[1:], [rest, *q[1:]]
        else:
            fix([p, q])
            return
        p, q = ([atom for segment in resolve([part]) for atom in segment if atom.size > 1] for part in (p, q))


def reshape(terms: Terms, shape: Sequence[int]) -> Terms:
    """Return the terms of a reshaped array. An axis of several segments survives only where it stays whole."""
    queue = [term for term in terms if size(term) != 1]
    result: Terms = []
    for count in shape:
        if count == 1:
            result.append(fresh(1, fixed=True))
        elif queue and size(queue[0]) == count:
            result.append(queue.pop(0))
        else:
            term = _gathered(queue, count)
            if term is None:
                fix_all(terms)
                return [fresh(n, fixed=True) for n in shape]
            result.append(term)
    return result


def _gathered(queue: Terms, count: int) -> Term | None:
    """Take factors off the queue until they make ``count``; None where no product does."""
    got, segment = 1, []
    while got < count:
        if not queue:
            return None
        term = resolve(queue.pop(0))
        atoms = list(term[0]) if len(term) == 1 else [_whole(term)]
        while atoms and got < count:
            atom = atoms.pop(0)
            need = count // got
            if need % atom.size == 0:
                segment.append(atom)
                got *= atom.size
            elif atom.size % need == 0:
                low, high = Atom(need), Atom(atom.size // need)
                _bind(atom, [[low, high]])
                segment.append(low)
                atoms.insert(0, high)
                got = count
            else:
                return None
        if atoms:
            queue.insert(0, [atoms])
    return [segment] if got == count else None
