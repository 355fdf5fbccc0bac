"""Hypothesis strategies for explainers and metrics: small images, masks, heatmaps, networks.

What they give prints itself as the call that makes it, so a failing example is a script::

    from hypothesis import given
    from pytest_xai.strategies import images, small_cnns

    @given(network=small_cnns(), images=images())
    def test_my_explainer_is_finite(network, images):
        targets = np.zeros(len(images), dtype=np.int64)
        explanation = MyExplainer().explain(network.classifier(), images, targets)
        assert np.isfinite(explanation.heatmaps).all()

The calls are functions and classes of `xai_core.checks`. Everything shrinks to few, small and flat.
"""

from __future__ import annotations

from typing import get_args

from xai_core.arrays import Bool, Float32
from xai_core.checks import (
    LinearNetwork,
    SmallCNN,
    example_heatmaps,
    example_images,
    example_masks,
)
from xai_core.checks.examples import HeatmapPattern, ImagePattern, MaskPattern
from xai_core.errors import MissingExtraError

try:
    from hypothesis import strategies as st
except ModuleNotFoundError:
    raise MissingExtraError(
        "pytest_xai.strategies", package="hypothesis", extra="hypothesis"
    ) from None

_SIZE = (16, 16)
_SEEDS = st.integers(0, 999)


def images(size: tuple[int, int] = _SIZE, *, max_count: int = 3) -> st.SearchStrategy[Float32]:
    """Return RGB images in [0, 1], float32 ``[1 to max_count, 3, *size]``."""
    patterns = st.sampled_from(get_args(ImagePattern))
    return st.builds(example_images, st.integers(1, max_count), *_sides(size), patterns, _SEEDS)


def masks(size: tuple[int, int] = _SIZE, *, max_count: int = 3) -> st.SearchStrategy[Bool]:
    """Return object masks, bool ``[1 to max_count, *size]``, none empty and none full."""
    patterns = st.sampled_from(get_args(MaskPattern))
    return st.builds(example_masks, st.integers(1, max_count), *_sides(size), patterns, _SEEDS)


def heatmaps(
    size: tuple[int, int] = _SIZE, *, max_count: int = 3, constant: bool = False
) -> st.SearchStrategy[Float32]:
    """Return heatmaps, float32 ``[1 to max_count, *size]``, of both signs.

    Args:
        size: height and width.
        max_count: how many at most.
        constant: whether maps of one value are among them, which most metrics call undefined.
    """
    patterns = [name for name in get_args(HeatmapPattern) if constant or name != "constant"]
    return st.builds(
        example_heatmaps,
        st.integers(1, max_count),
        *_sides(size),
        st.sampled_from(patterns),
        _SEEDS,
    )


def linear_classifiers(
    size: tuple[int, int] = _SIZE, *, max_classes: int = 4
) -> st.SearchStrategy[LinearNetwork]:
    """Return networks whose logits are linear in the image; ``.classifier()`` makes them."""
    return st.builds(LinearNetwork, st.integers(2, max_classes), *_sides(size), _SEEDS)


def small_cnns(*, max_width: int = 4, max_classes: int = 4) -> st.SearchStrategy[SmallCNN]:
    """Return small convolutional networks for even sizes; ``.classifier()`` makes them."""
    return st.builds(SmallCNN, st.integers(1, max_width), st.integers(2, max_classes), _SEEDS)


def _sides(size: tuple[int, int]) -> tuple[st.SearchStrategy[int], st.SearchStrategy[int]]:
    return st.just(size[0]), st.just(size[1])
