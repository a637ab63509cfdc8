"""Permutation paths between equivalent minima of a neural network: the public names.

Each name is imported on first use (PEP 562), so that ``import saddlescope`` and ``saddlescope --help`` load neither
JAX nor matplotlib. To add a name: one line for readers and type checkers, one line for Python; a test compares them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saddlescope import counting as counting
    from saddlescope import data as data
    from saddlescope.critical.along import certify_along as certify_along
    from saddlescope.critical.certify import certify as certify
    from saddlescope.critical.lifted import lifted_signs as lifted_signs
    from saddlescope.critical.proof import Proof as Proof
    from saddlescope.critical.proof import prove as prove
    from saddlescope.critical.result import Certificate as Certificate
    from saddlescope.data.data import Data as Data
    from saddlescope.data.weights import load_weights as load_weights
    from saddlescope.data.weights import save_weights as save_weights
    from saddlescope.errors import SaddlescopeError as SaddlescopeError
    from saddlescope.exchanges.find import exchange as exchange
    from saddlescope.exchanges.result import Exchange as Exchange
    from saddlescope.exchanges.result import ExchangeSettings as ExchangeSettings
    from saddlescope.exchanges.result import LayerExchange as LayerExchange
    from saddlescope.exchanges.result import UnitCosts as UnitCosts
    from saddlescope.models.from_function import from_equinox as from_equinox
    from saddlescope.models.from_function import from_flax as from_flax
    from saddlescope.models.from_function import from_function as from_function
    from saddlescope.models.from_torch import from_torch as from_torch
    from saddlescope.models.function import Function as Function
    from saddlescope.models.mlp import MLP as MLP
    from saddlescope.models.symmetries import symmetries as symmetries
    from saddlescope.models.to_torch import to_torch as to_torch
    from saddlescope.models.units import Symmetry as Symmetry
    from saddlescope.models.units import UnitFacts as UnitFacts
    from saddlescope.models.units import Units as Units
    from saddlescope.outcomes import Outcome as Outcome
    from saddlescope.papers.claims import run_claims as run_claims
    from saddlescope.paths.batch import find_paths as find_paths
    from saddlescope.paths.find import find_path as find_path
    from saddlescope.paths.mirror import position as position
    from saddlescope.paths.result import Path as Path
    from saddlescope.paths.result import PathSettings as PathSettings
    from saddlescope.paths.result import PermutationPoint as PermutationPoint
    from saddlescope.problem.problem import Problem as Problem
    from saddlescope.problem.sharding import shard as shard
    from saddlescope.records.recheck import recheck_path as recheck_path
    from saddlescope.records.store import load_path as load_path
    from saddlescope.records.store import save_path as save_path
    from saddlescope.resize.expand import ZeroGroup as ZeroGroup
    from saddlescope.resize.manifold import locate as locate
    from saddlescope.resize.manifold import manifold_graph as manifold_graph
    from saddlescope.resize.reduce import reduce as reduce
    from saddlescope.resize.result import Expansion as Expansion
    from saddlescope.resize.result import Reduction as Reduction
    from saddlescope.resize.result import Subspace as Subspace
    from saddlescope.training.train import train as train
    from saddlescope.units.neurons import Neurons as Neurons
    from saddlescope.units.neurons import Slice as Slice
    from saddlescope.valleys.join import join as join
    from saddlescope.valleys.join import join_position as join_position
    from saddlescope.valleys.moves import route_position as route_position
    from saddlescope.valleys.result import Join as Join
    from saddlescope.valleys.result import Walk as Walk
    from saddlescope.valleys.route import find_route as find_route
    from saddlescope.valleys.walk import walk as walk
    from saddlescope.workflows.escaped import Escape as Escape
    from saddlescope.workflows.higher_order import merge_recursively as merge_recursively
    from saddlescope.workflows.lowest import LowestPass as LowestPass
    from saddlescope.workflows.lowest import lowest_point as lowest_point
    from saddlescope.workflows.shrink import shrink as shrink
    from saddlescope.workflows.shrunk import ShrinkSettings as ShrinkSettings
    from saddlescope.workflows.shrunk import Shrunk as Shrunk
    from saddlescope.workflows.widen import expand as expand
    from saddlescope.workflows.widen import grown_moments as grown_moments

__version__ = "0.2.0"

_MODULES = {"counting": "saddlescope.counting", "data": "saddlescope.data"}
_HOMES = {
    "run_claims": "saddlescope.papers.claims",
    "shrink": "saddlescope.workflows.shrink",
    "ShrinkSettings": "saddlescope.workflows.shrunk",
    "Shrunk": "saddlescope.workflows.shrunk",
    "lowest_point": "saddlescope.workflows.lowest",
    "LowestPass": "saddlescope.workflows.lowest",
    "expand": "saddlescope.workflows.widen",
    "grown_moments": "saddlescope.workflows.widen",
    "Escape": "saddlescope.workflows.escaped",
    "ZeroGroup": "saddlescope.resize.expand",
    "reduce": "saddlescope.resize.reduce",
    "Expansion": "saddlescope.resize.result",
    "Reduction": "saddlescope.resize.result",
    "Subspace": "saddlescope.resize.result",
    "locate": "saddlescope.resize.manifold",
    "manifold_graph": "saddlescope.resize.manifold",
    "walk": "saddlescope.valleys.walk",
    "Walk": "saddlescope.valleys.result",
    "join": "saddlescope.valleys.join",
    "Join": "saddlescope.valleys.result",
    "find_route": "saddlescope.valleys.route",
    "route_position": "saddlescope.valleys.moves",
    "join_position": "saddlescope.valleys.join",
    "certify_along": "saddlescope.critical.along",
    "certify": "saddlescope.critical.certify",
    "lifted_signs": "saddlescope.critical.lifted",
    "Proof": "saddlescope.critical.proof",
    "prove": "saddlescope.critical.proof",
    "Certificate": "saddlescope.critical.result",
    "merge_recursively": "saddlescope.workflows.higher_order",
    "SaddlescopeError": "saddlescope.errors",
    "exchange": "saddlescope.exchanges.find",
    "Exchange": "saddlescope.exchanges.result",
    "ExchangeSettings": "saddlescope.exchanges.result",
    "LayerExchange": "saddlescope.exchanges.result",
    "UnitCosts": "saddlescope.exchanges.result",
    "Outcome": "saddlescope.outcomes",
    "find_path": "saddlescope.paths.find",
    "find_paths": "saddlescope.paths.batch",
    "Path": "saddlescope.paths.result",
    "PathSettings": "saddlescope.paths.result",
    "PermutationPoint": "saddlescope.paths.result",
    "position": "saddlescope.paths.mirror",
    "from_torch": "saddlescope.models.from_torch",
    "to_torch": "saddlescope.models.to_torch",
    "from_function": "saddlescope.models.from_function",
    "from_flax": "saddlescope.models.from_function",
    "from_equinox": "saddlescope.models.from_function",
    "symmetries": "saddlescope.models.symmetries",
    "Symmetry": "saddlescope.models.units",
    "Units": "saddlescope.models.units",
    "UnitFacts": "saddlescope.models.units",
    "Function": "saddlescope.models.function",
    "Data": "saddlescope.data.data",
    "MLP": "saddlescope.models.mlp",
    "Problem": "saddlescope.problem.problem",
    "shard": "saddlescope.problem.sharding",
    "load_weights": "saddlescope.data.weights",
    "save_weights": "saddlescope.data.weights",
    "load_path": "saddlescope.records.store",
    "recheck_path": "saddlescope.records.recheck",
    "save_path": "saddlescope.records.store",
    "Neurons": "saddlescope.units.neurons",
    "Slice": "saddlescope.units.neurons",
    "train": "saddlescope.training.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*_HOMES, *_MODULES, "__version__"])
