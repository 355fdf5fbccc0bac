"""Attention rollout and gradient-weighted rollout of a ViT, against plain loops over heads."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_core.classifier import TorchClassifier
from xai_core.errors import ClassifierError
from xai_core.explainers import AttentionRollout, Explainer, GradientRollout, parse_explainer
from xai_core.torchvision_import import import_torchvision

SIZE = (24, 24)
BLOCKS, HEADS, WIDTH = 3, 2, 8
TARGETS = np.array([0, 1, 2, 1])
IMAGES = np.random.default_rng(5).random((4, 3, *SIZE), dtype=np.float32)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
ROLLOUTS: list[Explainer] = [AttentionRollout(), GradientRollout()]


def vit() -> nn.Module:
    """Twice three blocks of two heads on 4 x 4 patches, attending unevenly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = import_torchvision().models.VisionTransformer(
            image_size=24, patch_size=6, num_layers=BLOCKS, num_heads=HEADS, hidden_dim=WIDTH,
            mlp_dim=16, num_classes=3,
        )  # fmt: skip
        nn.init.normal_(module.heads.head.weight)
        for block in module.encoder.layers:
            nn.init.normal_(block.self_attention.in_proj_weight)
            nn.init.normal_(block.self_attention.in_proj_bias)
        nn.init.normal_(module.class_token)
    return module.eval()


def classifier_of(module: nn.Module, **options: int) -> TorchClassifier:
    return TorchClassifier(module, name="small", size=SIZE, mean=MEAN, std=STD, **options)


def normalised(image: Tensor) -> Tensor:
    return torch.stack([(image[c] - MEAN[c]) / STD[c] for c in range(3)])


def attentions_of_torch(module: nn.Module, image: Tensor) -> list[Tensor]:
    """The attention matrices ``[heads, T, T]`` of one image as torch itself computes them."""
    kept: list[Tensor] = []

    def ask(_attention: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, object]) -> object:
        return args, kwargs | {"need_weights": True, "average_attn_weights": False}

    for block in module.encoder.layers:
        block.self_attention.register_forward_pre_hook(ask, with_kwargs=True)
        block.self_attention.register_forward_hook(lambda *call: kept.append(call[-1][1][0]))
    with torch.no_grad():
        module(normalised(image)[None])
    return kept


def on_patches(rollout: Tensor) -> np.ndarray:
    """The class token's row, as large as the image."""
    grid = torch.tensor([[rollout[0, 1 + 4 * i + j] for j in range(4)] for i in range(4)])
    return nn.functional.interpolate(grid[None, None], SIZE, mode="bilinear")[0, 0].numpy()


def test_attention_rollout_is_the_product_of_the_averaged_attentions_and_the_identity() -> None:
    got = AttentionRollout().explain(classifier_of(vit()), IMAGES, TARGETS)
    assert got.attributions is None
    for heatmap, image in zip(got.heatmaps, IMAGES, strict=True):
        rollout = torch.eye(17)
        for attention in attentions_of_torch(vit(), torch.from_numpy(image)):
            average = (attention[0] + attention[1]) / 2
            rollout = (0.5 * average + 0.5 * torch.eye(17)) @ rollout
        torch.testing.assert_close(rollout.sum(1), torch.ones(17))
        np.testing.assert_allclose(heatmap, on_patches(rollout), rtol=1e-4, atol=1e-7)
        assert heatmap.std() > 1e-3


def test_gradient_rollout_weighs_every_head_by_its_gradient() -> None:
    """Gradients of the attention here are differences of the logit as one entry is moved."""
    got = GradientRollout().explain(classifier_of(vit()), IMAGES, TARGETS)
    assert got.attributions is None
    for heatmap, image, target in zip(got.heatmaps[:2], IMAGES, TARGETS, strict=False):
        attentions = attentions_of_torch(vit(), torch.from_numpy(image))
        rollout = torch.eye(17)
        for number, attention in enumerate(attentions):
            gradient = by_differences(torch.from_numpy(image), int(target), number)
            weighted = torch.zeros(17, 17)
            for head in range(HEADS):
                weighted += (gradient[head] * attention[head]).clamp_min(0) / HEADS
            rollout = rollout + weighted @ rollout
        expected = on_patches(rollout)
        np.testing.assert_allclose(heatmap, expected, rtol=2e-2, atol=1e-3 * expected.max())


def by_differences(image: Tensor, target: int, number: int) -> Tensor:
    """d logit / d attention of one block, every entry moved up and down, in double precision.

    The block mixes values itself: its output is linear in the attention.
    """
    module = vit().double()
    block = module.encoder.layers[number].self_attention
    tokens: list[Tensor] = []
    hook = block.register_forward_pre_hook(lambda _m, args: tokens.append(args[0][0]))
    with torch.no_grad():
        module(normalised(image)[None].double())
    hook.remove()
    value = tokens[0] @ block.in_proj_weight[2 * WIDTH :].T + block.in_proj_bias[2 * WIDTH :]
    step = 1e-4
    moved = []
    for head in range(HEADS):
        some = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        for row in range(17):
            for column in range(17):
                change = torch.zeros(17, WIDTH).double()
                change[row, some] = step * value[column, some]
                moved.append(change @ block.out_proj.weight.T)
    deltas = torch.stack(moved).detach()
    hook = block.register_forward_hook(
        lambda _m, _i, output: (output[0] + torch.cat([deltas, -deltas]), None)
    )
    with torch.no_grad():
        logits = module(normalised(image)[None].double().expand(2 * len(deltas), -1, -1, -1))
    hook.remove()
    up, down = logits[:, target].chunk(2)
    return ((up - down) / (2 * step)).reshape(HEADS, 17, 17).float()


def test_the_opened_model_computes_what_the_closed_one_does() -> None:
    from xai_core.explainers.attention import _opened

    classifier = classifier_of(vit())
    seen: list[Tensor] = []
    opened = _opened(classifier, "test", seen.append)
    images = torch.from_numpy(IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(opened(images), classifier.logits(images), rtol=1e-4, atol=1e-5)
    assert [tuple(weights.shape) for weights in seen] == [(4, HEADS, 17, 17)] * BLOCKS
    for number, attention in enumerate(attentions_of_torch(vit(), images[0])):
        torch.testing.assert_close(seen[number][0], attention, rtol=1e-4, atol=1e-6)


def test_only_the_gradient_rollout_asks_for_the_target() -> None:
    classifier = classifier_of(vit())
    for explainer in ROLLOUTS:
        one = explainer.explain(classifier, IMAGES, TARGETS).heatmaps
        other = explainer.explain(classifier, IMAGES, (TARGETS + 1) % 3).heatmaps
        assert np.array_equal(one, other) == ("target_sensitivity" not in explainer.promises)


def test_every_image_passes_once() -> None:
    classifier = classifier_of(vit(), batch_size=3)
    AttentionRollout().explain(classifier, IMAGES, TARGETS)
    assert (classifier.passes.forwards, classifier.passes.gradients) == (4, 0)
    GradientRollout().explain(classifier, IMAGES, TARGETS)
    assert (classifier.passes.forwards, classifier.passes.gradients) == (4, 4)


@pytest.mark.parametrize("explainer", ROLLOUTS, ids=lambda e: e.kind)
def test_a_rollout_does_not_depend_on_the_batch_and_leaves_nothing_behind(
    explainer: Explainer,
) -> None:
    module = vit()
    before = copy.deepcopy(module.state_dict())
    images = IMAGES.copy()
    whole = explainer.explain(classifier_of(module), images, TARGETS).heatmaps
    assert whole.shape == (4, *SIZE)
    assert whole.dtype == np.float32
    assert np.array_equal(images, IMAGES)
    for batch_size in (1, 3):
        parts = explainer.explain(classifier_of(module, batch_size=batch_size), images, TARGETS)
        np.testing.assert_allclose(parts.heatmaps, whole, rtol=1e-4, atol=1e-6)
    assert explainer.explain(classifier_of(module), IMAGES[:0], TARGETS[:0]).heatmaps.shape == (
        0,
        *SIZE,
    )
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
    for child in module.modules():
        assert not child._forward_hooks
        assert not child._forward_pre_hooks
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_vit_inside_another_module_works_too() -> None:
    wrapped = AttentionRollout().explain(classifier_of(nn.Sequential(vit())), IMAGES, TARGETS)
    plain = AttentionRollout().explain(classifier_of(vit()), IMAGES, TARGETS)
    assert np.array_equal(wrapped.heatmaps, plain.heatmaps)


@pytest.mark.parametrize("name", ["attention_rollout", "gradient_rollout"])
def test_another_model_is_refused_with_what_works(name: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ClassifierError, match=f"{name} needs .* VisionTransformer .* gradcam"):
        parse_explainer(name).explain(classifier_of(module), IMAGES, TARGETS)
