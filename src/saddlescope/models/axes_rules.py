# ruff: noqa: SIM905 - names in a string are read more easily than a list of strings
"""What each of JAX's operations says of axes: which are one, which are fixed, which go through.

A rule takes the equation, the terms of its inputs and gives the terms of its outputs. An operation without a rule
fixes all that it touches, so that nothing is claimed of it.
"""

from collections.abc import Callable
from typing import Any

from saddlescope.models.axes import Atom, Term, Terms, fix, fix_all, fresh, reshape, resolve, size, unify

ELEMENTWISE = frozenset(
    "add sub mul div max min neg exp exp2 log log1p expm1 tanh logistic erf erf_inv erfc rsqrt sqrt cbrt square pow "
    "integer_pow abs sign floor ceil round is_finite eq ne lt le gt ge and or not xor select_n convert_element_type "
    "stop_gradient copy copy_p clamp sin cos tan atan2 rem nextafter add_any real imag asin acos atan sinh cosh asinh "
    "acosh atanh optimization_barrier reduce_precision device_put sharding_constraint lgamma digamma".split()
)
ALIASES = frozenset("reshape transpose squeeze expand_dims broadcast_in_dim convert_element_type copy copy_p".split())
"""Operations that show the same numbers in another layout."""
CONTRACTIONS = frozenset(["dot_general", "conv_general_dilated"])
REDUCTIONS = frozenset(f"reduce_{name}" for name in "sum max min prod and or xor".split()) | {"argmax", "argmin"}
WINDOWS = frozenset("reduce_window_max reduce_window_sum reduce_window_min reduce_window".split())
SCANS = frozenset("cumsum cummax cummin cumprod cumlogsumexp".split())


def shapes_of(equation: Any) -> list[tuple[int, ...]]:
    """Return the shapes of an equation's outputs."""
    return [tuple(variable.aval.shape) for variable in equation.outvars]


def outputs_of(equation: Any, inputs: list[Terms]) -> list[Terms]:
    """Return the terms of an equation's outputs, and unify or fix what it asks for."""
    name = equation.primitive.name
    if name in ELEMENTWISE:
        return _elementwise(equation, inputs)
    if name in RULES:
        return RULES[name](equation, inputs)
    for terms in inputs:
        fix_all(terms)
    return [[fresh(n, fixed=True) for n in shape] for shape in shapes_of(equation)]


def _elementwise(equation: Any, inputs: list[Terms]) -> list[Terms]:
    shapes = shapes_of(equation)
    full = [terms for terms in inputs if len(terms) == len(shapes[0])]
    if len(shapes) > 1:  # several arrays pass side by side
        return inputs if len(shapes) == len(inputs) else [[fresh(n) for n in shape] for shape in shapes]
    result = list(full[0]) if full else [fresh(n) for n in shapes[0]]
    for terms in full[1:]:
        for axis, term in enumerate(terms):
            if size(term) == size(result[axis]):
                unify(result[axis], term)
            elif size(result[axis]) == 1:
                result[axis] = term
    return [result]


def _broadcast(equation: Any, inputs: list[Terms]) -> list[Terms]:
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    result = [fresh(n) for n in shape]
    for term, place in zip(inputs[0], places, strict=True):
        if size(term) == shape[place]:
            result[place] = term
    return [result]


def _reshape(equation: Any, inputs: list[Terms]) -> list[Terms]:
    return [reshape(inputs[0], shapes_of(equation)[0])]


def _squeeze(equation: Any, inputs: list[Terms]) -> list[Terms]:
    return [[term for axis, term in enumerate(inputs[0]) if axis not in equation.params["dimensions"]]]


def _transpose(equation: Any, inputs: list[Terms]) -> list[Terms]:
    return [[inputs[0][axis] for axis in equation.params["permutation"]]]


def _reduce(equation: Any, inputs: list[Terms]) -> list[Terms]:
    axes = equation.params["axes"]
    if equation.primitive.name.startswith("arg"):
        fix_all([inputs[0][axis] for axis in axes])
    return [[term for axis, term in enumerate(inputs[0]) if axis not in axes]]


def _dot(equation: Any, inputs: list[Terms]) -> list[Terms]:
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    a, b = inputs
    for i, j in [*zip(left, right, strict=True), *zip(left_batch, right_batch, strict=True)]:
        unify(a[i], b[j])
    rest = [t for i, t in enumerate(a) if i not in (*left, *left_batch)]
    rest += [t for j, t in enumerate(b) if j not in (*right, *right_batch)]
    return [[*(a[i] for i in left_batch), *rest]]


def _convolution(equation: Any, inputs: list[Terms]) -> list[Terms]:
    p, numbers = equation.params, equation.params["dimension_numbers"]
    x, w, shape = inputs[0], inputs[1], shapes_of(equation)[0]
    into, out = x[numbers.lhs_spec[1]], w[numbers.rhs_spec[0]]
    result: list[Term] = [fresh(n, fixed=True) for n in shape]
    if p["batch_group_count"] != 1:
        fix_all([*x, *w])
        return [result]
    groups = p["feature_group_count"]
    if groups == 1:
        unify(into, w[numbers.rhs_spec[1]])
    else:  # channels: group by group; within a group all groups share the kernel's own axis
        group = Atom(groups)
        unify(into, [[group, *resolve(w[numbers.rhs_spec[1]])[0]]])
        unify(out, [[group, Atom(size(out) // groups)]])
    result[numbers.out_spec[0]], result[numbers.out_spec[1]] = x[numbers.lhs_spec[0]], out
    for k in range(2, len(shape)):
        place, kernel = x[numbers.lhs_spec[k]], w[numbers.rhs_spec[k]]
        plain = p["window_strides"][k - 2] == 1 and p["padding"][k - 2] == (0, 0) and p["lhs_dilation"][k - 2] == 1
        if size(kernel) == 1 and plain:
            result[numbers.out_spec[k]] = place
        else:
            fix_all([place, kernel])
    return [result]


def _window(equation: Any, inputs: list[Terms]) -> list[Terms]:
    p, result = equation.params, []
    for axis, n in enumerate(shapes_of(equation)[0]):
        plain = p["window_dimensions"][axis] == 1 and p["window_strides"][axis] == 1
        plain = plain and tuple(p["padding"][axis]) == (0, 0)
        if not plain:
            fix(inputs[0][axis])
        result.append(inputs[0][axis] if plain else fresh(n, fixed=True))
    return [result]


def _scan_along(equation: Any, inputs: list[Terms]) -> list[Terms]:
    fix(inputs[0][equation.params["axis"]])
    return [inputs[0]]


def _concatenate(equation: Any, inputs: list[Terms]) -> list[Terms]:
    along, result = equation.params["dimension"], []
    for axis, term in enumerate(inputs[0]):
        if axis == along:
            result.append([segment for terms in inputs for segment in resolve(terms[axis])])
        else:
            for terms in inputs[1:]:
                unify(term, terms[axis])
            result.append(term)
    return [result]


def _stack(equation: Any, inputs: list[Terms]) -> list[Terms]:
    along, first = equation.params["axis"], inputs[0]
    for terms in inputs[1:]:
        for one, other in zip(first, terms, strict=True):
            unify(one, other)
    return [[*first[:along], fresh(len(inputs), fixed=True), *first[along:]]]


def _unstack(equation: Any, inputs: list[Terms]) -> list[Terms]:
    along = equation.params["axis"]
    fix(inputs[0][along])
    rest = [term for axis, term in enumerate(inputs[0]) if axis != along]
    return [list(rest) for _ in shapes_of(equation)]


def _split(equation: Any, inputs: list[Terms]) -> list[Terms]:
    along, sizes = equation.params["axis"], equation.params["sizes"]
    parts = [Atom(int(n)) for n in sizes]
    unify(inputs[0][along], [[part] for part in parts])
    return [[[[part]] if axis == along else t for axis, t in enumerate(inputs[0])] for part in parts]


def _slice(equation: Any, inputs: list[Terms]) -> list[Terms]:
    p, result = equation.params, []
    for axis, term in enumerate(inputs[0]):
        first, last, n = p["start_indices"][axis], p["limit_indices"][axis], size(term)
        step = p["strides"][axis] if p["strides"] else 1
        if (first, last, step) == (0, n, 1):
            result.append(term)
        elif step != 1:
            fix(term)
            result.append(fresh(shapes_of(equation)[0][axis], fixed=True))
        else:
            parts = [Atom(count) for count in (first, last - first, n - last) if count]
            unify(term, [[part] for part in parts])
            result.append([[parts[1 if first else 0]]])
    return [result]


def _pad(equation: Any, inputs: list[Terms]) -> list[Terms]:
    result = []
    for axis, (low, high, inner) in enumerate(equation.params["padding_config"]):
        term = inputs[0][axis]
        if inner or low < 0 or high < 0:
            fix(term)
            result.append(fresh(shapes_of(equation)[0][axis], fixed=True))
        else:
            before, after = ([[Atom(low)]] if low else []), ([[Atom(high)]] if high else [])
            result.append([*before, *resolve(term), *after])
    return [result]


def _dynamic_slice(equation: Any, inputs: list[Terms]) -> list[Terms]:
    result = []
    for term, n in zip(inputs[0], equation.params["slice_sizes"], strict=True):
        if size(term) != n:
            fix(term)
        result.append(term if size(term) == n else fresh(n, fixed=True))
    return [result]


def _dynamic_update(_: Any, inputs: list[Terms]) -> list[Terms]:
    for term, part in zip(inputs[0], inputs[1], strict=True):
        if size(term) == size(part):
            unify(term, part)
        else:
            fix_all([term, part])
    return [inputs[0]]


def _gather(equation: Any, inputs: list[Terms]) -> list[Terms]:
    numbers, x, index = equation.params["dimension_numbers"], inputs[0], inputs[1]
    result: list[Term | None] = [None] * len(shapes_of(equation)[0])
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = [axis for axis in range(len(x)) if axis not in gone]
    for place, axis in zip(numbers.offset_dims, kept, strict=True):
        if equation.params["slice_sizes"][axis] == size(x[axis]):
            result[place] = x[axis]
        else:
            fix(x[axis])
    for axis in numbers.start_index_map:
        if equation.params["slice_sizes"][axis] != size(x[axis]):
            fix(x[axis])
    for mine, theirs in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
        unify(x[mine], index[theirs])
    batch = iter(index[:-1])
    for place, n in enumerate(shapes_of(equation)[0]):
        if place not in numbers.offset_dims:
            result[place] = next(batch)
        elif result[place] is None:
            result[place] = fresh(n, fixed=True)
    return [[term if term is not None else fresh(1) for term in result]]


def _scatter(equation: Any, inputs: list[Terms]) -> list[Terms]:
    numbers, (x, index, updates) = equation.params["dimension_numbers"], inputs
    gone = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    kept = [axis for axis in range(len(x)) if axis not in gone]
    for place, axis in zip(numbers.update_window_dims, kept, strict=True):
        if size(updates[place]) == size(x[axis]):
            unify(updates[place], x[axis])
        else:
            fix_all([updates[place], x[axis]])
    fix_all([x[axis] for axis in (*numbers.inserted_window_dims, *numbers.operand_batching_dims)])
    fix_all([term for place, term in enumerate(updates) if place not in numbers.update_window_dims])
    fix_all(index)
    return [x]


def _iota(equation: Any, _: list[Terms]) -> list[Terms]:
    along = equation.params["dimension"]
    return [[fresh(n, fixed=axis == along) for axis, n in enumerate(shapes_of(equation)[0])]]


def _reverse(equation: Any, inputs: list[Terms]) -> list[Terms]:
    fix_all([inputs[0][axis] for axis in equation.params["dimensions"]])
    return [inputs[0]]


def _sort(equation: Any, inputs: list[Terms]) -> list[Terms]:
    for terms in inputs:
        fix(terms[equation.params["dimension"]])
        for mine, first in zip(terms, inputs[0], strict=True):
            unify(mine, first)
    return list(inputs)


RULES: dict[str, Callable[[Any, list[Terms]], list[Terms]]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "expand_dims": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "concatenate": _concatenate,
    "stack": _stack,
    "unstack": _unstack,
    "split": _split,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
    "pad": _pad,
    "gather": _gather,
    "scatter": _scatter,
    "scatter-add": _scatter,
    "scatter_add": _scatter,
    "iota": _iota,
    "rev": _reverse,
    "sort": _sort,
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(WINDOWS, _window),
    **dict.fromkeys(SCANS, _scan_along),
}
