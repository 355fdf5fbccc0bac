"""Tiny networks of known structure, described by a few numbers.

Each is a frozen dataclass that prints as the call that makes it: `Network.module` is the bare
``nn.Module`` for normalised images, `Network.classifier` the classifier around it. Layers wrap
around at the borders of the image, so that nothing but content tells one place from another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from xai_core.checks.examples import example_images
from xai_core.classifier import TorchClassifier
from xai_core.parameters import require

MEAN = (0.48, 0.45, 0.40)
STD = (0.25, 0.25, 0.25)


class Network(Protocol):
    """A tiny network, to be made as often as wanted.

    Attributes:
        classes: how many.
        size: height and width of its images.
    """

    @property
    def classes(self) -> int: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def module(self) -> nn.Module:
        """Return a new module in evaluation mode; the same weights every time."""
        ...

    def classifier(self, *, batch_size: int | None = None) -> TorchClassifier:
        """Return a new classifier around a new module."""
        ...


class _Made:
    """What all networks share: a classifier around the module that they make."""

    def classifier(self: Network, *, batch_size: int | None = None) -> TorchClassifier:
        """Return a new classifier around a new module."""
        return TorchClassifier(
            self.module(),
            name=repr(self),
            size=self.size,
            mean=MEAN,
            std=STD,
            batch_size=batch_size,
        )


class _HideRight(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return torch.cat([x[..., :half], torch.zeros_like(x[..., half:])], dim=-1)


class _Untraceable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        # A branch on a value stops torch.fx, and with it the folding of batch norm.
        return x if bool(x.sum() > -torch.inf) else x * 1.0


@dataclass(frozen=True)
class SmallCNN(_Made):
    """Convolution, batch norm, ReLU, twice, with pooling between; mean over places; linear.

    Args:
        width: channels of the first convolution; the second has twice as many.
        classes: how many.
        seed: of the weights.
        mirrored: every kernel is its own mirror image, so that the logits of an image and of its
            mirror image are equal.
        blind: the right half of the image is ignored.
        reordered: the same function with the channels in another order.
        unfolded: the same function in a form in which batch norm cannot be folded away.
        absorbed: RGB that the first bias takes off: an image brighter by so much gives what the
            image itself gives without.
    """

    width: int = 4
    classes: int = 3
    seed: int = 0
    mirrored: bool = False
    blind: bool = False
    reordered: bool = False
    unfolded: bool = False
    absorbed: float = 0.0

    def __post_init__(self) -> None:
        require(self.width >= 1, f"`width` must be at least 1, got {self.width}")
        require(self.classes >= 2, f"`classes` must be at least 2, got {self.classes}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its images; any even ones will do."""
        return (24, 32)

    def module(self) -> nn.Module:
        """Return a new module in evaluation mode; the same weights every time."""
        width = self.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            conv1, conv2 = _conv(3, width), _conv(width, 2 * width)
            bn1, bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(2 * width)
            head = nn.Linear(2 * width, self.classes)
            with torch.no_grad():
                for bn in (bn1, bn2):
                    bn.weight.uniform_(0.5, 1.5)
                    bn.bias.uniform_(-0.5, 0.5)
                for conv in (conv1, conv2) if self.mirrored else ():
                    conv.weight.copy_((conv.weight + conv.weight.flip(-1)) / 2)
        first = nn.Sequential(conv1, bn1, nn.ReLU(), nn.AvgPool2d(2))
        second = nn.Sequential(conv2, bn2, nn.ReLU())
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        _calibrate(nn.Sequential(first, second, pooled), (bn1, bn2), head)
        with torch.no_grad():
            if self.absorbed:
                shift = torch.tensor(self.absorbed) / torch.tensor(STD)
                cast(Tensor, conv1.bias).sub_(conv1.weight.sum(dim=(2, 3)) @ shift)
            if self.reordered:
                _reorder(conv1, bn1, conv2)
                _reorder(conv2, bn2, head)
        front = [_HideRight()] * self.blind + [_Untraceable()] * self.unfolded
        return nn.Sequential(*front, *first, *second, *pooled, head).eval()

    def twins(self) -> dict[str, SmallCNN]:
        """Return other networks of the same function, by what is different in them."""
        return {
            "its channels in another order": replace(self, reordered=True),
            "its batch norm not folded": replace(self, unfolded=True),
        }


@dataclass(frozen=True)
class LinearNetwork(_Made):
    """Logits that are linear in the image: one weight for each class and value.

    Args:
        classes: how many.
        height: of its images.
        width: of its images.
        seed: of the weights.
    """

    classes: int = 3
    height: int = 16
    width: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.classes >= 2, f"`classes` must be at least 2, got {self.classes}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its images."""
        return (self.height, self.width)

    def module(self) -> nn.Module:
        """Return a new module in evaluation mode; the same weights every time."""
        return nn.Sequential(_identity(), nn.Flatten(), self._head()).eval()

    def weights(self) -> Tensor:
        """Return d logit / d RGB value, ``[classes, 3, height, width]``."""
        weights = self._head().weight.detach().reshape(-1, 3, *self.size)
        return weights / torch.tensor(STD).view(3, 1, 1)

    def _head(self) -> nn.Linear:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            values = 3 * self.height * self.width
            head = nn.Linear(values, self.classes)
            nn.init.normal_(head.weight, std=values**-0.5)
        return head


@dataclass(frozen=True)
class SymmetricNetwork(_Made):
    """A network that sees no difference between two blocks of the image.

    Every pixel goes through a layer of its own, then all through one whose units weigh the two
    blocks alike. The blocks lie on the diagonal.

    Args:
        classes: how many.
        seed: of the weights.
    """

    classes: int = 3
    seed: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its images."""
        return (16, 16)

    @property
    def blocks(self) -> tuple[slice, slice]:
        """Rows, and columns, of the two blocks."""
        return slice(4, 8), slice(8, 12)

    def module(self) -> nn.Module:
        """Return a new module in evaluation mode; the same weights every time."""
        one, other = self.blocks
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            pixelwise = nn.Conv2d(3, 6, 1)
            hidden, head = nn.Linear(6 * 16 * 16, 12), nn.Linear(12, self.classes)
            nn.init.normal_(hidden.weight, std=0.1)
            nn.init.normal_(head.weight)
        with torch.no_grad():
            weights = hidden.weight.view(12, 6, 16, 16)
            weights[..., other, other] = weights[..., one, one]
        return nn.Sequential(pixelwise, nn.ReLU(), nn.Flatten(), hidden, nn.ReLU(), head).eval()


@dataclass(frozen=True)
class OnePixelNetwork(_Made):
    """A network that looks at one pixel, and sees no difference beyond a brightness of one half.

    Args:
        row: of the pixel.
        column: of the pixel.
    """

    row: int = 5
    column: int = 9

    classes = 2

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its images."""
        return (16, 16)

    def module(self) -> nn.Module:
        """Return a new module in evaluation mode; the same weights every time."""
        below = nn.Conv2d(3, 3, 1)  # how far a value lies below one half, in RGB
        head = nn.Linear(3 * 16 * 16, self.classes)
        with torch.no_grad():
            below.weight.copy_(-torch.diag(torch.tensor(STD)).view(3, 3, 1, 1))
            cast(Tensor, below.bias).copy_(0.5 - torch.tensor(MEAN))
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
            head.weight.view(2, 3, 16, 16)[0, :, self.row, self.column] = -4.0
        return nn.Sequential(below, nn.ReLU(), nn.Flatten(), head).eval()


class _WeightedSum(nn.Module):
    def __init__(self, modules: list[nn.Module], factors: tuple[float, ...]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(modules)
        self._factors = factors

    def forward(self, x: Tensor) -> Tensor:
        logits = [factor * term(x) for term, factor in zip(self.terms, self._factors, strict=True)]
        return torch.stack(logits).sum(dim=0)


@dataclass(frozen=True)
class SumNetwork(_Made):
    """A network whose logits are a weighted sum of the logits of two others.

    Args:
        terms: the two; of one number of classes and one size.
        factors: of the sum.
    """

    terms: tuple[SmallCNN, SmallCNN]
    factors: tuple[float, float]

    @property
    def classes(self) -> int:
        """How many."""
        return self.terms[0].classes

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its images."""
        return self.terms[0].size

    def module(self) -> nn.Module:
        """Return a new module in evaluation mode; the same weights every time."""
        return _WeightedSum([term.module() for term in self.terms], self.factors).eval()


@dataclass(frozen=True)
class TinyTransformer(_Made):
    """torchvision's vision transformer with two blocks of two heads.

    Args:
        classes: how many.
        seed: of the weights.
        reordered: the same function with the hidden units of its MLPs in another order.
    """

    classes: int = 3
    seed: int = 0
    reordered: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its images."""
        return (32, 32)

    def module(self) -> nn.Module:
        """Return a new module in evaluation mode; the same weights every time."""
        from xai_core.torchvision_import import import_torchvision

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = cast(
                nn.Module,
                import_torchvision().models.VisionTransformer(
                    image_size=32,
                    patch_size=8,
                    num_layers=2,
                    num_heads=2,
                    hidden_dim=16,
                    mlp_dim=32,
                    num_classes=self.classes,
                ),
            )
            for name, parameter in model.named_parameters():
                # torchvision's first weights are so small that patches hardly matter.
                if parameter.ndim > 1 and name != "class_token":
                    nn.init.normal_(parameter, std=0.35)
        for name, linear in model.named_modules() if self.reordered else ():
            if name.endswith("mlp.0"):
                after = model.get_submodule(f"{name.removesuffix('0')}3")
                with torch.no_grad():
                    _reorder(cast(nn.Linear, linear), None, cast(nn.Linear, after))
        return model.eval()

    def twins(self) -> dict[str, TinyTransformer]:
        """Return other networks of the same function, by what is different in them."""
        return {"its hidden units in another order": replace(self, reordered=True)}


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="circular")


def _identity() -> nn.Conv2d:
    """Return a layer with space that changes nothing, for explainers that want one."""
    conv = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
    return conv


def _calibrate(features: nn.Module, norms: tuple[nn.BatchNorm2d, ...], head: nn.Linear) -> None:
    """Fit batch norm, and logits that differ clearly from image to image, to example images."""
    images = torch.from_numpy(example_images(16, 24, 32, "tiles", seed=1).copy())
    normalised = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        for bn in norms:
            bn.momentum = None  # statistics of all batches, here of one
        features.train()(normalised)
        found = features.eval()(normalised)
        head.weight.mul_(2 / head(found).std(dim=0).mean().clamp_min(1e-6))
        head.bias.copy_(-(found.mean(dim=0) @ head.weight.T))


def _reorder(
    before: nn.Conv2d | nn.Linear,
    norm: nn.BatchNorm2d | None,
    after: nn.Conv2d | nn.Linear,
) -> None:
    """Put the channels between two layers into the opposite order."""
    before.weight.copy_(before.weight.flip(0))
    cast(Tensor, before.bias).copy_(cast(Tensor, before.bias).flip(0))
    if norm is not None:
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            cast(Tensor, values).copy_(cast(Tensor, values).flip(0))
    after.weight.copy_(after.weight.flip(1))
