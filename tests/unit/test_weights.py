import argparse
import math
import os
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from xai_core.classifier.weights import (
    adapt_state_dict,
    fit_state_dict,
    infer_num_classes,
    read_state_dict,
)
from xai_core.errors import WeightsError
from xai_core.torchvision_import import import_torchvision


def small() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), head=nn.Linear(4, 2))
    )


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


class RunsACommand:
    """Unpickling one creates a file: the harmless form of an attack."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


# --- reading ---


def test_safetensors_is_read(tmp_path: Path) -> None:
    state = small().state_dict()
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    assert same(read_state_dict(tmp_path / "w.safetensors"), state)


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin", "ckpt", "pth.tar"])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saved_is_read(tmp_path: Path, suffix: str, zipped: bool) -> None:
    state = small().state_dict()
    path = tmp_path / f"w.{suffix}"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    assert same(read_state_dict(str(path)), state)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_training_checkpoint_is_unwrapped(tmp_path: Path, key: str) -> None:
    state = small().state_dict()
    torch.save({key: state, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth")
    assert same(read_state_dict(tmp_path / "w.pth"), state)


@pytest.mark.parametrize("how", ["torch", "torch legacy", "plain pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, how: str) -> None:
    path, trace = tmp_path / "w.pth", tmp_path / "trace"
    attack = {"state_dict": RunsACommand(f"touch {trace}")}
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(attack))
    else:
        torch.save(attack, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(WeightsError, match=r"w\.pth is refused.*run code.*save_file") as raised:
        read_state_dict(path)
    assert not trace.exists()
    assert "weights_only" not in str(raised.value)


def test_the_attack_of_these_tests_would_work_on_an_unsafe_reader(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(RunsACommand(f"touch {trace}")))
    assert trace.exists()


def test_a_pickled_module_is_refused_with_the_class_that_it_asks_for(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"asks for torch\.nn\.modules.*model\.state_dict\(\)"):
        read_state_dict(tmp_path / "w.pth")


def test_a_checkpoint_with_other_objects_in_it_is_refused(tmp_path: Path) -> None:
    checkpoint = {"state_dict": small().state_dict(), "args": argparse.Namespace(lr=1)}
    torch.save(checkpoint, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"asks for argparse\.Namespace"):
        read_state_dict(tmp_path / "w.pth")


def test_a_torchscript_archive_is_called_so(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="TorchScript archive"):
        read_state_dict(tmp_path / "w.pt")


def test_an_onnx_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(WeightsError, match="is an ONNX file"):
        read_state_dict(tmp_path / "w.onnx")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights file .*absent\.pth"):
        read_state_dict(tmp_path / "absent.pth")


def test_a_directory_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is a directory"):
        read_state_dict(tmp_path)


def test_an_unknown_suffix_says_which_are_known(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"expected \.safetensors, .*got '\.h5'"):
        read_state_dict(tmp_path / "w.h5")


def test_a_git_lfs_pointer_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("version https://git-lfs.github.com/spec/v1\nsize 3\n")
    with pytest.raises(WeightsError, match="git lfs pull"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\0" * 300, b"PK\x03\x04" * 9])
def test_a_file_that_is_something_else_is_named(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"w\.{suffix} cannot be read"):
        read_state_dict(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, kind: str, kept: float) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        safetensors.torch.save_file(small().state_dict(), path)
    else:
        torch.save(small().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(WeightsError, match=rf"{path.name} "):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [({}, "an empty dict"), ([1], "a list"), ({"epoch": 1, "net": {}}, "epoch, net")],
)
def test_a_file_without_a_state_dict_says_what_it_holds(
    tmp_path: Path, content: object, found: str
) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"expected a dict of tensors.*{found}"):
        read_state_dict(tmp_path / "w.pth")


# --- names ---


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "model.module."])
def test_a_wrappers_prefix_is_taken_off(prefix: str) -> None:
    module = small()
    wrapped = {f"{prefix}{key}": tensor for key, tensor in module.state_dict().items()}
    assert same(adapt_state_dict(module, wrapped), module.state_dict())


def test_a_prefix_that_the_module_itself_has_stays() -> None:
    module = nn.ModuleDict({"model": nn.Linear(2, 2)})
    assert same(adapt_state_dict(module, module.state_dict()), module.state_dict())


def test_a_prefix_that_only_some_keys_have_stays() -> None:
    state = {"model.conv.weight": torch.ones(1), "criterion.weight": torch.ones(1)}
    assert adapt_state_dict(small(), state).keys() == state.keys()


def test_densenet_files_with_their_former_names_load() -> None:
    models = import_torchvision().models
    saved = models.densenet121(num_classes=3).state_dict()
    former = {}
    for key, tensor in saved.items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            if "denselayer" in key:
                key = key.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        former[key] = tensor
    assert "features.denseblock1.denselayer1.norm.1.weight" in former
    module = models.densenet121(num_classes=3)
    fit_state_dict(module, former, source="former.pth")
    assert same(module.state_dict(), saved)


def test_vit_files_with_their_former_names_load() -> None:
    models = import_torchvision().models

    def tiny() -> nn.Module:
        vit: nn.Module = models.VisionTransformer(32, 16, 1, 2, 16, 16, num_classes=3)
        return vit

    saved = tiny().state_dict()
    former = {
        key.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): tensor
        for key, tensor in saved.items()
    }
    assert former.keys() != saved.keys()
    module = tiny()
    fit_state_dict(module, former, source="former.pth")
    assert same(module.state_dict(), saved)


# --- fitting ---


def test_weights_that_fit_are_loaded() -> None:
    module, state = small(), small().state_dict()
    fit_state_dict(module, state, source="w.pth")
    assert same(module.state_dict(), state)


def test_half_precision_is_cast_to_single() -> None:
    module = small()
    state = {
        key: tensor.half() if tensor.is_floating_point() else tensor
        for key, tensor in small().state_dict().items()
    }
    fit_state_dict(module, state, source="w.pth")
    assert module.conv.weight.dtype == torch.float32
    assert torch.equal(module.conv.weight, state["conv.weight"].float())


def test_files_from_before_batch_norm_counted_its_steps_load() -> None:
    module, state = small(), small().state_dict()
    del state["norm.num_batches_tracked"]
    fit_state_dict(module, state, source="w.pth")
    assert torch.equal(module.conv.weight, state["conv.weight"])


def test_an_mnasnet_file_without_torchs_version_mark_loads() -> None:
    models = import_torchvision().models
    state = dict(models.mnasnet0_5(num_classes=2).state_dict())
    fit_state_dict(models.mnasnet0_5(num_classes=2), state, source="w.safetensors")


def test_a_misfit_lists_missing_unexpected_and_misshapen_keys_with_counts() -> None:
    state = small().state_dict()
    del state["norm.bias"]
    state |= {f"extra.{index}": torch.ones(1) for index in range(7)}
    state["head.weight"] = torch.ones(9, 4)
    with pytest.raises(WeightsError) as raised:
        fit_state_dict(small(), state, source="some/w.pth")
    message = str(raised.value)
    assert message.startswith("some/w.pth does not fit Sequential: ")
    assert "1 of 9 keys missing (norm.bias)" in message
    assert "7 unexpected (extra.0, extra.1, extra.2, extra.3, extra.4, and 2 more)" in message
    assert (
        "1 of another shape (head.weight is [9, 4] in the file and [2, 4] in the model" in message
    )


def test_a_misfit_leaves_the_module_as_it_was() -> None:
    module = small()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    state = small().state_dict()
    state["head.bias"] = torch.full((2,), math.nan)
    with pytest.raises(WeightsError):
        fit_state_dict(module, state, source="w.pth")
    assert same(module.state_dict(), before)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_name_their_key(value: float) -> None:
    state = small().state_dict()
    state["norm.running_var"][1] = value
    with pytest.raises(WeightsError, match=r"w\.pth: norm\.running_var has values that are NaN"):
        fit_state_dict(small(), state, source="w.pth")


def test_quantised_weights_are_refused() -> None:
    state = small().state_dict()
    state["conv.weight"] = torch.zeros(4, 3, 3, 3, dtype=torch.uint8)
    with pytest.raises(WeightsError, match=r"conv\.weight is stored as torch\.uint8"):
        fit_state_dict(small(), state, source="w.pth")


def test_sparse_weights_are_refused() -> None:
    state = small().state_dict()
    state["head.weight"] = state["head.weight"].to_sparse()
    with pytest.raises(WeightsError, match=r"head\.weight is not a plain dense tensor"):
        fit_state_dict(small(), state, source="w.pth")


# --- classes ---


@pytest.mark.parametrize(
    "name",
    ["resnet18", "densenet121", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"],
)
def test_the_number_of_classes_is_read_from_the_head(name: str) -> None:
    models = import_torchvision().models
    state = models.get_model(name, weights=None, num_classes=7).state_dict()
    wrapped = {f"module.{key}": tensor for key, tensor in state.items()}
    module = models.get_model(name, weights=None)
    assert infer_num_classes(module, state) == infer_num_classes(module, wrapped) == 7


def test_the_number_of_classes_is_unknown_where_the_head_is_absent() -> None:
    assert infer_num_classes(small(), {"conv.weight": torch.ones(4, 3, 3, 3)}) is None
