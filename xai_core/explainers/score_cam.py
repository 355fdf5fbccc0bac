"""Class activation maps without gradients: channels weighed by what the scores make of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from xai_core.arrays import Float32, Int64
from xai_core.classifier.layered import with_layers
from xai_core.explainers.baselines import baseline_images, check_baseline
from xai_core.explainers.explanation import Explanation, Needs, Promise
from xai_core.explainers.layer_maps import check_layer, enlarged, full_batches
from xai_core.parameters import require

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

_PROMISES: frozenset[Promise] = frozenset(
    {"target_sensitivity", "implementation_invariance", "flip_equivariance", "randomised_weights"}
)


@dataclass(frozen=True)
class ScoreCAM:
    """Score-CAM [Wang et al. 2020, eq. 5-8 and algorithm 1].

    ``ReLU(sum_k w_k A_k)``. Each channel, enlarged to the image and scaled to [0, 1] by its own
    minimum and maximum, masks the image; its increase of confidence is ``f(image x mask) -
    f(baseline)``, ``f`` the target's probability; ``w`` is the softmax of the increases over the
    channels. There the baseline cancels, so it is not run. A channel that is constant has no such
    mask: it gets no weight and costs nothing. One forward pass for each other channel.

    Code in the wild differs, also from the paper: the authors' repository takes the probability
    itself as the weight, grad-cam and torch-cam the softmax of *logits* (``score="logit"``), and
    all three mask the normalised image, so what is hidden turns the mean colour instead of black.
    Probabilities lie in [0, 1], so the softmax makes weights that differ by less than a factor e:
    the map is close to the mean activation, whatever the target. ``weights="increase"`` leaves
    the softmax out (the paper's eq. 7-8 as they stand).

    Args:
        layer: name of the layer; None = the last one that still has space, after its ReLU.
        score: the target's ``probability``, or its ``logit``.
        weights: ``softmax`` of the increases over the channels, or the ``increase`` itself.
        baseline: what ``increase`` is measured against, as in Integrated Gradients; None = black.
    """

    kind: ClassVar[str] = "score_cam"
    needs: ClassVar[Needs] = "activations"
    source: ClassVar[str] = "Wang et al. 2020"
    promises: ClassVar[frozenset[Promise]] = _PROMISES

    layer: str | None = None
    score: Literal["probability", "logit"] = "probability"
    weights: Literal["softmax", "increase"] = "softmax"
    baseline: str | None = None

    def __post_init__(self) -> None:
        check_layer(self.layer)
        if self.baseline is not None:
            require(
                self.weights == "increase",
                "`baseline` has no effect here, it cancels in the softmax over channels; leave it "
                'out, or set `weights` to "increase"',
            )
            check_baseline(self.baseline)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        layers = with_layers(classifier, self.kind)
        at = self.layer or classifier.default_layer()
        maps = []
        for batch, classes in full_batches(classifier, images, targets):
            for image, activations, target in zip(
                batch, layers.activations(batch, at), classes, strict=True
            ):
                weights = self._weights(classifier, image[None], activations, int(target))
                cam = (weights[:, None, None] * activations).sum(dim=0, keepdim=True)
                maps.append(torch.relu(cam))
        return enlarged(maps, images.shape[-2:])

    def _weights(
        self, classifier: Classifier, image: Tensor, activations: Tensor, target: int
    ) -> Tensor:
        """Return weights ``[C]`` for the channels ``[C, h, w]`` of one image ``[1, 3, H, W]``."""
        size = (int(image.shape[-2]), int(image.shape[-1]))
        channels = _varying(activations)
        step = classifier.batch_size(*size)

        def masked() -> Iterator[Tensor]:
            for some in torch.split(channels, step):
                large = torch.nn.functional.interpolate(
                    activations[some][:, None], size=size, mode="bilinear"
                )
                low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
                # Numbers next to each other may become one when enlarged; then the mask is zero.
                spread = (high - low).clamp_min(torch.finfo(large.dtype).tiny)
                yield image * ((large - low) / spread)

        run = classifier.scores if self.score == "probability" else classifier.logits
        weights = activations.new_zeros(len(activations))
        if len(channels):
            found = run(masked())[:, target]
            if self.weights == "softmax":
                weights[channels] = torch.softmax(found, dim=0)
            else:
                reference = baseline_images(
                    self.baseline or "black", classifier, image.cpu().numpy()
                )
                weights[channels] = found - run(torch.from_numpy(reference.copy()))[0, target]
        return weights


@dataclass(frozen=True)
class AblationCAM:
    """Ablation-CAM [Desai & Ramaswamy 2020, eq. 3-4].

    ``ReLU(sum_k w_k A_k)`` with ``w_k = (y - y_k) / y``: the drop of the target's *logit* ``y``
    when channel ``k`` of the layer is set to zero. The drop is divided by ``|y|``: public code
    divides by ``y`` and turns the map upside down where the logit is negative. A channel that is
    zero anyway costs nothing; each other one costs a forward pass from the layer on.

    Args:
        layer: name of the layer; None = the last one that still has space, after its ReLU.
    """

    kind: ClassVar[str] = "ablation_cam"
    needs: ClassVar[Needs] = "activations"
    source: ClassVar[str] = "Desai & Ramaswamy 2020"
    promises: ClassVar[frozenset[Promise]] = _PROMISES

    layer: str | None = None

    def __post_init__(self) -> None:
        check_layer(self.layer)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`."""
        layers = with_layers(classifier, self.kind)
        at = self.layer or classifier.default_layer()
        step = classifier.batch_size(*images.shape[-2:])
        maps = []
        for batch, classes in full_batches(classifier, images, targets):
            for image, activations, target in zip(
                batch, layers.activations(batch, at), classes, strict=True
            ):
                alive = activations.flatten(1).any(dim=1).nonzero()[:, 0]
                logits = layers.logits_from(image[None], at, _ablated(activations, alive, step))
                whole, without = logits[0, target], logits[1:, target]
                weights = activations.new_zeros(len(activations))
                weights[alive] = (whole - without) / (whole.abs() if whole != 0 else 1)
                cam = (weights[:, None, None] * activations).sum(dim=0, keepdim=True)
                maps.append(torch.relu(cam))
        return enlarged(maps, images.shape[-2:])


@dataclass(frozen=True)
class EigenCAM:
    """Eigen-CAM [Muhammad & Yeasin 2020, section III].

    ``A v``, the activations of all positions (``[h w, C]``) projected on their first right
    singular vector: where the layer is most active, whatever the target. Singular vectors have no
    sign; it is chosen so that the map's sum is positive, which for activations after a ReLU makes
    the whole map positive. Where activations have signs, the negative part is cut off. As in the
    paper activations are not centred (grad-cam centres them, which leaves the sign to chance).

    Args:
        layer: name of the layer; None = the last one that still has space, after its ReLU.
    """

    kind: ClassVar[str] = "eigen_cam"
    needs: ClassVar[Needs] = "activations"
    source: ClassVar[str] = "Muhammad & Yeasin 2020"
    promises: ClassVar[frozenset[Promise]] = _PROMISES - {"target_sensitivity"}

    layer: str | None = None

    def __post_init__(self) -> None:
        check_layer(self.layer)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images``; the targets make no difference. See `Explainer.explain`."""
        layers = with_layers(classifier, self.kind)
        at = self.layer or classifier.default_layer()
        maps = []
        for batch, _ in full_batches(classifier, images, targets):
            activations = layers.activations(batch, at)
            positions = activations.flatten(2).transpose(1, 2)
            left, values, _ = torch.linalg.svd(positions, full_matrices=False)
            first = left[:, :, 0] * values[:, :1]
            first = torch.where(first.sum(dim=1, keepdim=True) < 0, -first, first)
            maps.append(torch.relu(first).reshape(len(batch), *activations.shape[-2:]))
        return enlarged(maps, images.shape[-2:])


def _varying(activations: Tensor) -> Tensor:
    """Return the indices of the channels ``[C, h, w]`` that are not the same everywhere."""
    flat = activations.flatten(1)
    return (flat.amax(dim=1) > flat.amin(dim=1)).nonzero()[:, 0]


def _ablated(activations: Tensor, channels: Tensor, step: int) -> Iterator[Tensor]:
    """Yield ``[C, h, w]`` as it is, then with one channel after the other set to zero."""
    yield activations[None]
    for some in torch.split(channels, step):
        copies = activations.repeat(len(some), 1, 1, 1)
        copies[torch.arange(len(some)), some] = 0
        yield copies
