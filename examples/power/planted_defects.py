"""What is done to a good classifier, its images or its explainers, and what is harmless.

A `Bench` is all that a gate looks at; a condition is a function from a good bench to a changed
one, so what a defect does can be read and tested without any training.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from PIL import Image
from planted_explainers import (
    GradCAMMistake,
    IGMistake,
    MistakenGradCAM,
    MistakenIntegratedGradients,
)
from torch import Tensor, nn

from xai_core import ImageSet, Method, Sample
from xai_core.arrays import Bool, Float32, Int64
from xai_core.classifier import TorchClassifier
from xai_core.classifier.reinitialise import reinitialise
from xai_core.imageset import Resize
from xai_core.imageset.factory import set_in_memory

Colour = tuple[float, float, float]
Part = Literal["weights", "input", "masks", "gradcam", "ig"]


@dataclass(frozen=True)
class Bench:
    """A classifier with all that its gates look at.

    Attributes:
        module: maps normalised images to logits.
        size: height and width of its images.
        mean: subtracted from RGB in [0, 1].
        std: divides afterwards.
        samples: the images that are explained.
        held_out: name -> images that only the accuracy is taken on, ``[M, 3, H, W]``, and their
            classes, ``[M]``; the first is what a team would have.
        methods: the explainers.
        batch_size: images in one pass; None = as the classifier chooses.
        threads: of torch.
        onednn: whether torch may take oneDNN's kernels; its own round otherwise, as those of
            another processor do.
        folded: whether batch norm is folded into the convolutions.
    """

    module: nn.Module
    size: tuple[int, int]
    mean: Colour
    std: Colour
    samples: tuple[Sample, ...]
    held_out: dict[str, tuple[Float32, Int64]]
    methods: tuple[Method, ...]
    batch_size: int | None = None
    threads: int = 1
    onednn: bool = True
    folded: bool = True

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Compute with the bench's threads and kernels."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        onednn, *_ = torch.backends.mkldnn.set_flags(self.onednn)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.mkldnn.set_flags(onednn)  # type: ignore[no-untyped-call]

    def classifier(self) -> TorchClassifier:
        """Return the classifier as it would be loaded."""
        made = TorchClassifier(
            self.module,
            name="subject",
            size=self.size,
            mean=self.mean,
            std=self.std,
            batch_size=self.batch_size,
        )
        if self.folded:
            return made
        twins = dict(made.twins())
        return twins.get("its batch norm not folded", made)

    def images(self) -> ImageSet:
        """Return the samples as a set."""
        return set_in_memory(
            [("the study", sample) for sample in self.samples],
            name="the study",
            transform=Resize(size=self.size),
        )


@dataclass(frozen=True)
class Condition:
    """Something that is changed, and whether gates ought to mind.

    Attributes:
        name: as tables call it.
        harmful: whether it is a defect.
        part: what of the bench it changes: a gate that does not look there need not be measured
            again.
        plant: changes the bench; the seed is that of the network.
        retrained: whether the weights come from another training run.
        code_only: whether weights, images and masks stay as they are byte for byte, whatever the
            names of the tensors, so that only the code around them is another.
    """

    name: str
    harmful: bool
    part: Part
    plant: Callable[[Bench, int], Bench]
    retrained: bool = False
    code_only: bool = False


# Weights


def pruned(module: nn.Module, share: float) -> nn.Module:
    """Return a copy in which the smallest weights, this share of all kernels', are 0."""
    changed = copy.deepcopy(module)
    kernels = _kernels(changed)
    sizes = torch.cat([kernel.detach().abs().flatten() for kernel in kernels])
    cut = torch.kthvalue(sizes, max(1, round(share * len(sizes)))).values
    with torch.no_grad():
        for kernel in kernels:
            kernel[kernel.abs() <= cut] = 0
    return changed


def rounded(module: nn.Module, bits: int, *, per_channel: bool) -> nn.Module:
    """Return a copy whose kernels take at most ``2**bits - 1`` values, symmetric around 0.

    Args:
        module: any model.
        bits: of each weight.
        per_channel: whether each output channel has a scale of its own, or the tensor has one.
    """
    changed = copy.deepcopy(module)
    most = 2 ** (bits - 1) - 1
    with torch.no_grad():
        for kernel in _kernels(changed):
            axes = tuple(range(1, kernel.ndim)) if per_channel else tuple(range(kernel.ndim))
            scale = kernel.abs().amax(dim=axes, keepdim=True).clamp_min(1e-12) / most
            kernel.copy_((kernel / scale).round() * scale)
    return changed


def halved_precision(module: nn.Module) -> nn.Module:
    """Return a copy whose weights went through float16."""
    changed = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in changed.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    return changed


def drawn_anew(module: nn.Module, prefixes: tuple[str, ...], seed: int) -> nn.Module:
    """Return a copy in which the layers under one of ``prefixes`` (all, if "") know nothing."""
    changed = copy.deepcopy(module)
    owners = [
        name
        for name, layer in changed.named_modules()
        if layer.state_dict(keep_vars=True) and not list(layer.children())
    ]
    chosen = [name for name in owners if any(_under(name, prefix) for prefix in prefixes)]
    reinitialise(changed, chosen, seed=seed)
    return changed


class _Swapped(nn.Module):
    """A model that takes blue for red."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images.flip(1))
        return logits


# Images and masks


def cropped(image: Float32) -> Float32:
    """Return the middle of an image ``[3, H, W]``, 7/8 of its side, at the image's size."""
    height, width = image.shape[-2:]
    top, left = height // 16, width // 16
    inner = torch.from_numpy(image[:, top : height - top, left : width - left].copy())
    found: Float32 = nn.functional.interpolate(
        inner[None], size=(height, width), mode="bilinear", antialias=True
    )[0].numpy()
    return found


def coarsened(image: Float32) -> Float32:
    """Return an image ``[3, H, W]`` that was resized to half its side and back, nearest pixel."""
    half = image[:, ::2, ::2]
    height, width = image.shape[-2:]
    return np.ascontiguousarray(half.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width])


def compressed(image: Float32, quality: int) -> Float32:
    """Return an image ``[3, H, W]`` that went through a JPEG file."""
    pixels = np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as read:
        back = np.asarray(read, dtype=np.float32)
    return np.ascontiguousarray((back / np.float32(255)).transpose(2, 0, 1))


def moved_mask(mask: Bool, pixels: int) -> Bool:
    """Return a mask ``[H, W]`` moved down and right; nothing comes in at the edges."""
    moved = np.zeros_like(mask)
    moved[pixels:, pixels:] = mask[:-pixels, :-pixels]
    return moved


# Conditions


def planted(*, early_layer: str, late_layer: str, last_block: tuple[str, ...]) -> list[Condition]:
    """Return the conditions that need no training.

    Args:
        early_layer: a wrong layer for Grad-CAM, near the image.
        late_layer: another, just before the right one.
        last_block: prefixes of the layers of the last block.
    """
    return [
        _weights("last block random", lambda m, seed: drawn_anew(m, last_block, seed)),
        _weights("whole net random", lambda m, seed: drawn_anew(m, ("",), seed)),
        _weights("pruned 50 %", lambda m, _: pruned(m, 0.5)),
        _weights("pruned 80 %", lambda m, _: pruned(m, 0.8)),
        _weights("pruned 95 %", lambda m, _: pruned(m, 0.95)),
        _weights("int4 per channel", lambda m, _: rounded(m, 4, per_channel=True)),
        _weights("int4 per tensor", lambda m, _: rounded(m, 4, per_channel=False)),
        _code("BGR", True, "weights", lambda b, _: replace(b, module=_Swapped(b.module))),
        _code("other mean and std", True, "input", _other_normalisation),
        _code("no normalisation", True, "input", _no_normalisation),
        _images("wrong crop", True, cropped),
        _images("wrong resize", True, coarsened),
        _masks("mask shifted by 1/16", 16),
        _masks("mask shifted by 1/8", 8),
        _gradcam("Grad-CAM: layer before", "layer", late_layer),
        _gradcam("Grad-CAM: early layer", "layer", early_layer),
        _gradcam("Grad-CAM: sign flipped", "sign"),
        _gradcam("Grad-CAM: half a cell off", "offset"),
        _gradcam("Grad-CAM: of probability", "probability"),
        _gradcam("Grad-CAM: in-place hook", "in-place"),
        _gradcam("Grad-CAM: next class", "target"),
        _ig("IG: sign flipped", "sign"),
        _ig("IG: no absolute value", "absolute"),
        _ig("IG: baseline 0 after norm.", "baseline"),
        _ig("IG: 3 steps", "steps"),
        _ig("IG: of probability", "probability"),
        _ig("IG: next class", "target"),
        Condition("float16 weights", False, "weights", _float16),
        _code("batch norm not folded", False, "weights", _unfolded),
        _code("batches of 7", False, "weights", _other_batches),
        _code("2 threads", False, "weights", _two_threads),
        _code("other kernels", False, "weights", _other_kernels),
        _code("images reversed", False, "input", _reversed),
        _images("JPEG quality 95", False, lambda image: compressed(image, 95)),
    ]


def _code(name: str, harmful: bool, part: Part, plant: Callable[[Bench, int], Bench]) -> Condition:
    return Condition(name, harmful, part, plant, code_only=True)


def _weights(name: str, change: Callable[[nn.Module, int], nn.Module]) -> Condition:
    return Condition(
        name, True, "weights", lambda b, seed: replace(b, module=change(b.module, seed))
    )


def _images(name: str, harmful: bool, change: Callable[[Float32], Float32]) -> Condition:
    def plant(bench: Bench, _: int) -> Bench:
        samples = tuple(replace(one, image=change(one.image)) for one in bench.samples)
        held_out = {
            kind: (np.stack([change(one) for one in images]), labels)
            for kind, (images, labels) in bench.held_out.items()
        }
        return replace(bench, samples=samples, held_out=held_out)

    return Condition(name, harmful, "input", plant)


def _masks(name: str, part_of_side: int) -> Condition:
    def moved(sample: Sample) -> Sample:
        assert sample.mask is not None
        return replace(sample, mask=moved_mask(sample.mask, len(sample.mask) // part_of_side))

    def plant(bench: Bench, _: int) -> Bench:
        return replace(bench, samples=tuple(moved(one) for one in bench.samples))

    return Condition(name, True, "masks", plant)


def _gradcam(name: str, mistake: GradCAMMistake, layer: str = "") -> Condition:
    method = Method("gradcam", MistakenGradCAM(mistake, layer))
    return _code(name, True, "gradcam", lambda bench, _: _with(bench, method))


def _ig(name: str, mistake: IGMistake) -> Condition:
    def plant(bench: Bench, _: int) -> Bench:
        steps = next(one.parameters["steps"] for one in bench.methods if one.name == "ig")
        return _with(bench, Method("ig", MistakenIntegratedGradients(mistake, steps)))

    return _code(name, True, "ig", plant)


def _with(bench: Bench, method: Method) -> Bench:
    methods = tuple(method if one.name == method.name else one for one in bench.methods)
    return replace(bench, methods=methods)


def _other_normalisation(bench: Bench, _: int) -> Bench:
    """ImageNet's for a model of another, and the other way round."""
    if bench.mean == (0.5, 0.5, 0.5):
        return replace(bench, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return replace(bench, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _no_normalisation(bench: Bench, _: int) -> Bench:
    return replace(bench, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _float16(bench: Bench, _: int) -> Bench:
    return replace(bench, module=halved_precision(bench.module))


def _unfolded(bench: Bench, _: int) -> Bench:
    return replace(bench, folded=False)


def _other_batches(bench: Bench, _: int) -> Bench:
    return replace(bench, batch_size=7)


def _two_threads(bench: Bench, _: int) -> Bench:
    return replace(bench, threads=2)


def _other_kernels(bench: Bench, _: int) -> Bench:
    return replace(bench, onednn=False)


def _reversed(bench: Bench, _: int) -> Bench:
    """Return the bench with its images in reverse: a set is in the order of its names."""
    count = len(bench.samples)
    renamed = [
        replace(one, name=f"{count - place:03d}_{one.name}")
        for place, one in enumerate(bench.samples)
    ]
    return replace(bench, samples=tuple(renamed))


def _kernels(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights of convolutions and linear layers."""
    return [parameter for parameter in module.parameters() if parameter.ndim >= 2]


def _under(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}.")
