"""Reading weights from files that nobody vouches for, and fitting them to a module.

Nothing in a weights file is ever executed: safetensors has no code, and a pickle is read by
torch's restricted reader, which makes tensors and plain containers and nothing else.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from xai_core.errors import WeightsError

_PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar")
_LISTED = 5

# Where training scripts put the state dict, and what wrappers write before each of its keys.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.", "_orig_mod.")

# Names that torchvision's own hub files still carry: DenseNet's layers, the MLP of ViT.
_FORMER_NAMES = (
    (re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(\.mlp)\.linear_2\."), r"\1.3."),
)

_HOW_TO_CONVERT = (
    "where you trust the file, load it once yourself and save only its tensors: "
    "torch.save(model.state_dict(), 'weights.pth'), or "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file on the CPU, taken out of a training checkpoint.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote (``.pth``, ``.pt``, ``.bin``,
            ``.ckpt``, ``.tar``): a state dict, or a checkpoint that holds one under
            ``state_dict``, ``model_state_dict`` or ``model``.

    Raises:
        WeightsError: no such file, another format, damaged, or a pickle that needs code to be
            run; the message names the file and says what to do.
    """
    path = Path(path)
    _require_weights_file(path)
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    return _state_dict_in(_read_pickled(path), path)


def adapt_state_dict(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names that ``module`` has for them.

    Takes off the prefix of DataParallel, Lightning or ``torch.compile`` where all keys have it
    and the module's own do not, and renames what older releases of torchvision called otherwise.
    Keys that do not correspond to anything stay as they are.
    """
    own = set(module.state_dict())
    adapted = dict(state)
    while (prefix := _foreign_prefix(adapted, own)) is not None:
        adapted = {key.removeprefix(prefix): tensor for key, tensor in adapted.items()}
    renamed: dict[str, Tensor] = {}
    for key, tensor in adapted.items():
        now = key if key in own else _present_name(key)
        renamed[now if now in own and now not in adapted else key] = tensor
    return renamed


def infer_num_classes(module: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Return how many classes the weights were trained for, or None if they do not tell.

    The number of rows of the weight that ``module`` has in its last linear or convolutional
    layer; this is the head in every classification architecture of torchvision.
    """
    heads = [
        name for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)
    ]
    if not heads:
        return None
    weight = adapt_state_dict(module, state).get(f"{heads[-1]}.weight")
    return int(weight.shape[0]) if weight is not None and weight.ndim > 0 else None


def fit_state_dict(module: nn.Module, state: Mapping[str, Tensor], *, source: str | Path) -> None:
    """Load the weights into ``module``, every one of them or none.

    Half precision is cast to the module's own. Only batch norm's counters of training steps may
    be absent: files from before they existed lack them, and inference does not read them.

    Args:
        module: changed only if everything fits.
        state: as `read_state_dict` gives it; names are adapted by `adapt_state_dict`.
        source: the file, for messages.

    Raises:
        WeightsError: missing, unexpected or mis-shaped keys, quantised tensors, or values that
            are NaN or infinite.
    """
    own = module.state_dict()
    fitted = OrderedDict(adapt_state_dict(module, state))
    for key in own:
        if key.endswith("num_batches_tracked"):
            fitted.setdefault(key, own[key])
    misfits = _misfits(own, fitted)
    if misfits:
        msg = (
            f"{source} does not fit {type(module).__name__}: {'; '.join(misfits)}. Is it another "
            f"architecture or a changed head? Give a function that builds the network that was "
            f"saved: 'package.module:function'"
        )
        raise WeightsError(msg)
    for key, tensor in fitted.items():
        _require_usable(key, tensor, own[key], source)
    # MNASNet refuses weights without a version, which only a pickle made by torch can carry.
    version = {"": {"version": module._version}}
    fitted._metadata = version  # type: ignore[attr-defined]
    module.load_state_dict(fitted)


def _require_weights_file(path: Path) -> None:
    suffix = path.suffix.lower()
    if path.is_dir():
        msg = f"{path} is a directory; expected a weights file (.safetensors, .pth, .pt, .bin)"
        raise WeightsError(msg)
    if not path.is_file():
        msg = f"no weights file {path} (the working directory is {Path.cwd()})"
        raise WeightsError(msg)
    if suffix == ".onnx":
        msg = (
            f"{path} is an ONNX file, a whole network and not weights; expected the weights of "
            f"the PyTorch model that it was exported from (.safetensors, .pth, .pt, .bin)"
        )
        raise WeightsError(msg)
    if suffix != ".safetensors" and suffix not in _PICKLED:
        msg = f"{path}: expected .safetensors, {', '.join(_PICKLED)}, got {suffix or 'no suffix'!r}"
        raise WeightsError(msg)
    if _first_bytes(path).startswith(b"version https://git-lfs"):
        msg = f"{path} is only a Git LFS pointer to the weights: run 'git lfs pull'"
        raise WeightsError(msg)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(32)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise WeightsError(msg) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, str(error)) from error
    if not tensors:
        msg = f"{path} holds no tensors"
        raise WeightsError(msg)
    return tensors


def _read_pickled(path: Path) -> object:
    if _is_torchscript(path):
        msg = (
            f"{path} is a TorchScript archive, a compiled network and not weights; "
            f"{_HOW_TO_CONVERT}"
        )
        raise WeightsError(msg)
    try:
        with warnings.catch_warnings():
            # About pickle protocols, before an error that says more.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not (zipfile.is_zipfile(path) or _first_bytes(path).startswith(b"\x80")):
            raise _damaged(path, "it is not a file that torch.save wrote") from None
        wanted = re.search(r"GLOBAL (\w[\w.]*)", str(error))
        what = f"it asks for {wanted[1]}" if wanted else "it is not only tensors"
        msg = (
            f"{path} is refused: unpickling it would run code from the file ({what}); "
            f"{_HOW_TO_CONVERT}"
        )
        # Not chained: torch's own message advises to switch the protection off.
        raise WeightsError(msg) from None
    except Exception as error:  # a damaged pickle raises whatever its bytes spell
        reason = str(error).partition("\n")[0].strip() or type(error).__name__
        raise _damaged(path, reason) from error


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _damaged(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{path} cannot be read as weights, it is truncated, damaged or of another kind "
        f"({reason}); copy or download it again"
    )


def _state_dict_in(loaded: object, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if isinstance(loaded, Mapping):
        if loaded and all(isinstance(value, Tensor) for value in loaded.values()):
            return {str(key): tensor for key, tensor in loaded.items()}
        others = [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]
        found = f"a dict with other things in it: {_some(others)}" if others else "an empty dict"
    else:
        found = f"a {type(loaded).__name__}"
    msg = (
        f"{path}: expected a dict of tensors (model.state_dict()), or one under "
        f"{' or '.join(repr(key) for key in _WRAPPERS)}, got {found}"
    )
    raise WeightsError(msg)


def _foreign_prefix(state: Mapping[str, Tensor], own: set[str]) -> str | None:
    for prefix in _PREFIXES:
        foreign = not any(key.startswith(prefix) for key in own)
        if foreign and state and all(key.startswith(prefix) for key in state):
            return prefix
    return None


def _present_name(key: str) -> str:
    for former, present in _FORMER_NAMES:
        key = former.sub(present, key)
    return key


def _misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Return one phrase for each way in which the keys do not fit."""
    phrases: list[str] = []
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    shaped = [
        f"{key} is {list(state[key].shape)} in the file and {list(own[key].shape)} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing:
        phrases.append(f"{len(missing)} of {len(own)} keys missing ({_some(missing)})")
    if unexpected:
        phrases.append(f"{len(unexpected)} unexpected ({_some(unexpected)})")
    if shaped:
        phrases.append(f"{len(shaped)} of another shape ({_some(shaped)})")
    return phrases


def _some(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f", and {more} more" if more > 0 else "")


def _require_usable(key: str, tensor: Tensor, own: Tensor, source: str | Path) -> None:
    if tensor.is_quantized or (own.is_floating_point() and not tensor.is_floating_point()):
        msg = (
            f"{source}: {key} is stored as {tensor.dtype}, expected floating point; "
            f"quantised weights have no gradients: give the weights before quantisation"
        )
        raise WeightsError(msg)
    if tensor.is_meta or tensor.layout is not torch.strided:
        msg = f"{source}: {key} is not a plain dense tensor; save model.state_dict() of the model"
        raise WeightsError(msg)
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
        msg = f"{source}: {key} has values that are NaN or infinite; the file is of no use"
        raise WeightsError(msg)
