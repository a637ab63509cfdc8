"""The subspaces themselves, one by one, at small size: what the closed forms count."""

from collections.abc import Iterator

from saddlescope.errors import SettingsError

Assignment = tuple[int, ...]
"""For each neuron of the large network its role: 0 to r - 1, a copy of that small neuron; r and beyond, the zero-type
group of that number. Groups are numbered by their first neuron."""

LARGEST = 9
"""Beyond this width the list is too long; use the closed forms."""


def minimum_assignments(small: int, wide: int) -> Iterator[Assignment]:
    """Yield every subspace of the expansion manifold once: each small neuron has a copy; others form zero-type groups.

    Source: [S21] section 4.2.

    Raises:
        SettingsError: not 1 <= small <= wide <= `LARGEST`.
    """
    if not 1 <= small <= wide <= LARGEST:
        raise SettingsError(
            "too large to be listed",
            name="small, wide",
            value=(small, wide),
            expected=f"1 <= small <= wide <= {LARGEST}",
        )
    return _extend((), small, wide, small)


def critical_assignments(small: int, wide: int) -> Iterator[Assignment]:
    """Yield every symmetry-induced critical subspace once: all neurons are copies ([S21] section 4.1).

    Raises:
        SettingsError: not 1 <= small <= wide <= `LARGEST`.
    """
    return (roles for roles in minimum_assignments(small, wide) if max(roles) < small)


def _extend(roles: Assignment, small: int, wide: int, groups: int) -> Iterator[Assignment]:
    """Add neuron after neuron; ``groups`` is the first unused number of a zero-type group."""
    missing = small - len(set(roles) & set(range(small)))
    if missing > wide - len(roles):
        return
    if len(roles) == wide:
        yield roles
        return
    for role in range(groups + 1):
        yield from _extend((*roles, role), small, wide, max(groups, role + 1))


def surjections(small: int, wide: int, taken: Assignment = ()) -> Iterator[Assignment]:
    """Yield every way to give the large layer's neurons roles 0 to r - 1, each taken; ``taken``: the first ones."""
    if small - len(set(taken)) > wide - len(taken):
        return
    if len(taken) == wide:
        yield taken
        return
    for role in range(small):
        yield from surjections(small, wide, (*taken, role))
