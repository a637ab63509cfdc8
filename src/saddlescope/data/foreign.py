"""Files of other programs, recognised by what they hold or by their name, each with the line that converts it."""

import re
import zipfile
from pathlib import Path

_TORCH = (
    "from safetensors.torch import save_file; import torch; {load}; "
    'save_file({{k: v.contiguous() for k, v in sd.items()}}, "{out}")'
)
_STATE = 'o = torch.load("{file}", map_location="cpu"); sd = o.get("state_dict", o)'
_MODULE = 'sd = torch.load("{file}", map_location="cpu", weights_only=False).state_dict()'
_SCRIPT = 'sd = torch.jit.load("{file}", map_location="cpu").state_dict()'
_ONNX = (
    "import onnx; from onnx.numpy_helper import to_array; from safetensors.numpy import save_file; "
    'save_file({{i.name: to_array(i).copy() for i in onnx.load("{file}").graph.initializer}}, "{out}")'
)
_FLAX = (
    "from flax import serialization as s, traverse_util as t; from safetensors.flax import save_file; "
    'save_file({{".".join(k).replace("kernel", "weight"): v.T.copy() for k, v in '
    't.flatten_dict(s.msgpack_restore(open("{file}", "rb").read())).items()}}, "{out}")'
)
_KERAS = (
    "import keras; from safetensors.numpy import save_file; "
    'save_file({{f"{{k}}.{{n}}": w.T.copy() for k, l in enumerate(keras.models.load_model("{file}").layers) '
    'for n, w in zip(("weight", "bias"), l.get_weights())}}, "{out}")'
)
_NUMPY = 'import numpy; from safetensors.numpy import save_file; save_file(dict(numpy.load("{file}")), "{out}")'
_PICKLE = (
    "import numpy, pathlib, pickle; from safetensors.numpy import save_file; save_file({{k: numpy.array(v) for k, v in "
    'pickle.loads(pathlib.Path("{file}").read_bytes()).items()}}, "{out}")'
)

_BY_SUFFIX = {
    ".pt": "a file of torch.save",
    ".pth": "a file of torch.save",
    ".bin": "a file of torch.save",
    ".ckpt": "a checkpoint of PyTorch Lightning",
    ".h5": "an HDF5 file, as Keras writes it",
    ".hdf5": "an HDF5 file, as Keras writes it",
    ".keras": "a Keras file",
    ".onnx": "an ONNX file",
    ".pkl": "a pickle",
    ".pickle": "a pickle",
    ".joblib": "a pickle",
    ".msgpack": "a msgpack file, as Flax writes it",
}


def exists(path: Path) -> bool:
    """Return whether there is such a file or folder; a name that no file can have names none."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, or a NUL in it
        return False


def foreign_kind(path: Path) -> str | None:
    """Return what a file is, in words, if it is one of another program; None for all that is not recognised.

    The content decides; only where it says nothing, the ending of the name. Nothing is unpickled.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except (OSError, ValueError):
        return None
    by_name = _BY_SUFFIX.get(path.suffix.lower())
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _BY_SUFFIX[".h5"]
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path, by_name)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return by_name if by_name in (_BY_SUFFIX[".pt"], _BY_SUFFIX[".ckpt"]) else "a pickle"
    if head.startswith(b"\x93NUMPY"):
        return "a .npy file of NumPy"
    return by_name


def _zip_kind(path: Path, by_name: str | None) -> str:
    """Return which of the programs that zip their files wrote this one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return by_name or "a damaged zip file"
    if any(name.endswith(("constants.pkl", "/code/__torch__.py")) for name in names):
        return "a TorchScript file"
    if any(name.endswith("data.pkl") for name in names):
        return _BY_SUFFIX[".ckpt"] if by_name == _BY_SUFFIX[".ckpt"] else _BY_SUFFIX[".pt"]
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return _BY_SUFFIX[".keras"]
    if names and all(name.endswith(".npy") for name in names):
        return "an .npz file of NumPy"
    return by_name or "a zip file"


def conversion(path: Path, kind: str) -> str | None:
    """Return one line of Python that writes the weights of such a file as safetensors; None where none is known.

    It has no single quote, so that a shell takes it in single quotes.
    """
    lines = {
        _BY_SUFFIX[".pt"]: _TORCH.replace("{load}", _MODULE if _holds_module(path) else _STATE),
        _BY_SUFFIX[".ckpt"]: _TORCH.replace("{load}", _STATE),
        "a TorchScript file": _TORCH.replace("{load}", _SCRIPT),
        _BY_SUFFIX[".h5"]: _KERAS,
        _BY_SUFFIX[".keras"]: _KERAS,
        _BY_SUFFIX[".onnx"]: _ONNX,
        _BY_SUFFIX[".msgpack"]: _FLAX,
        "a pickle": _PICKLE,
        "an .npz file of NumPy": _NUMPY,
    }
    if kind not in lines:
        return None
    plain = re.fullmatch(r"[\w.+-]{1,40}", path.name) is not None  # what stands in a shell's quotes as it is
    stem = path.stem if plain else "FILE"
    return lines[kind].format(file=path.name if plain else "FILE", out=f"{stem}.safetensors")


def _holds_module(path: Path) -> bool:
    """Return whether torch.save was given a module, not its state: the pickle names a class outside torch's storage."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as file:
                words = file.read(65536)
    except (zipfile.BadZipFile, OSError, ValueError, StopIteration, NotImplementedError, RuntimeError):
        return False
    return b"_parameters" in words
