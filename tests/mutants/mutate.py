"""One small change at a time to a source: flipped comparisons, constants times and over ten, and their like."""

import ast
import copy
import random
from collections.abc import Iterator
from typing import NamedTuple

SWAPS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
}
NAMES = {
    one: other
    for pair in (("min", "max"), ("minimum", "maximum"), ("any", "all"), ("argmin", "argmax"))
    for one, other in (pair, pair[::-1])
}


class Mutant(NamedTuple):
    """A module's source with one change; ``where`` names the function, or the constant of the module."""

    path: str
    line: int
    where: str
    old: str
    new: str
    source: str

    @property
    def key(self) -> str:
        """What names the change when lines have moved."""
        return f"{self.path} {self.where}: {self.old} -> {self.new}"

    @property
    def constant(self) -> bool:
        """Whether a constant of the module was changed."""
        return self.where.strip("_").isupper()


def mutants(path: str, source: str, skip: frozenset[str] = frozenset()) -> list[Mutant]:
    """Return all mutants of a source; functions and constants named in ``skip`` are left alone."""
    found, seen = [], set()
    for where, node, new in _changes(ast.parse(source), "", skip):
        one = Mutant(path, node.lineno, where, _short(node), _short(new), _replaced(source, node, new))
        if (one.line, one.key) not in seen:
            seen.add((one.line, one.key))
            found.append(one)
    return found


def fault(path: str, source: str, old: str, new: str) -> Mutant:
    """Return the mutant in which one passage of the source is replaced by another."""
    if source.count(old) != 1:
        raise ValueError(f"{path}: the passage {old!r} stands there {source.count(old)} times, not once")
    line = source[: source.index(old)].count("\n") + 1
    return Mutant(path, line, "fault", " ".join(old.split()), " ".join(new.split()), source.replace(old, new))


def sample(all_: list[Mutant], most: int, seed: int = 0) -> list[Mutant]:
    """Return all mutants of constants, and of the others so many that there are ``most`` together, the same always."""
    constants = [one for one in all_ if one.constant]
    others = [one for one in all_ if not one.constant]
    few = max(0, most - len(constants))
    chosen = others if len(others) <= few else random.Random(seed).sample(others, few)
    return sorted([*constants, *chosen], key=lambda one: (one.line, one.key))


def _changes(node: ast.AST, where: str, skip: frozenset[str]) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Yield where, a node, and what to put in its place."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            if child.name in skip:
                continue
            inner = f"{where}.{child.name}" if where else child.name
            yes = isinstance(child.returns, ast.Name) and child.returns.id == "bool"
            for statement in child.body:
                if yes:
                    yield from _answers(statement, inner)
                yield from _changes(ast.Module([statement], []), inner, skip)
        elif isinstance(child, ast.ClassDef):
            yield from _changes(child, child.name, skip)
        elif isinstance(child, ast.Assign) and not where:
            name = next(one.id for one in ast.walk(child.targets[0]) if isinstance(one, ast.Name))
            if name not in skip:
                yield from _changes(ast.Module([ast.Expr(child.value)], []), name, skip)
        elif isinstance(child, ast.AnnAssign):
            name = child.target.id if not where and isinstance(child.target, ast.Name) else where
            if child.value is not None and name not in skip:
                yield from _changes(ast.Module([ast.Expr(child.value)], []), name, skip)
        elif isinstance(child, (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom)):
            continue  # texts, and what only a mistake in the code itself would reach
        else:
            if isinstance(child, ast.expr):
                yield from ((where, child, new) for new in _instead(child, where))
            yield from _changes(child, where, skip)


def _answers(statement: ast.AST, where: str) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Yield True and False in the place of what a function returns."""
    for one in ast.walk(statement):
        if isinstance(one, ast.Return) and one.value is not None:
            for answer in (True, False):
                if not (isinstance(one.value, ast.Constant) and one.value.value is answer):
                    yield where, one.value, ast.Constant(answer)


def _instead(node: ast.AST, where: str) -> Iterator[ast.expr]:
    """Yield the nodes to put in the place of one."""
    named = where.strip("_").isupper()
    if isinstance(node, ast.Compare):
        for k, sign in enumerate(node.ops):
            for other in SWAPS.get(type(sign), ()):
                new = copy.deepcopy(node)
                new.ops[k] = other()
                yield new
    elif isinstance(node, (ast.BoolOp, ast.BinOp)) and not _is_text(node):
        for other in SWAPS.get(type(node.op), ()):
            new = copy.deepcopy(node)
            new.op = other()
            yield new
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert, ast.USub)):
        if not isinstance(node.operand, ast.Constant) or named:  # -1 in code is mostly a place in an array
            yield node.operand
    elif isinstance(node, ast.Name) and node.id in NAMES:
        yield ast.Name(NAMES[node.id])
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield ast.Attribute(copy.deepcopy(node.value), NAMES[node.attr])
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        value = node.value
        if abs(value) > 1e-200 and (isinstance(value, float) or named):  # whole numbers are mostly places
            yield ast.Constant(10 * value)
            yield ast.Constant(value / 10 if isinstance(value, float) else value // 10)


def _is_text(node: ast.AST) -> bool:
    return any(isinstance(one, ast.JoinedStr) or isinstance(getattr(one, "value", 0), str) for one in ast.walk(node))


def _short(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 90 else f"{text[:60]} ... {text[-25:]}"


def _replaced(source: str, node: ast.expr, new: ast.expr) -> str:
    """Return the source with a node's own text replaced; columns of nodes count bytes."""
    lines = source.encode().splitlines(keepends=True)
    begin = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    text = ast.unparse(new)
    if not isinstance(new, (ast.Constant, ast.Name, ast.Attribute)):
        text = f"({text})"
    return (b"".join(lines)[:begin] + text.encode() + b"".join(lines)[end:]).decode()
