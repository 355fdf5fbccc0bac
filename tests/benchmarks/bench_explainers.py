"""Speed against references in the same run: ratios, never seconds."""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import IntegratedGradients as CaptumIG
from references import integrated_in_float64, interleaved, middle, relative, resnet50

from xai_core.explainers import GradCAM, IntegratedGradients


def test_integrated_gradients_are_twice_as_fast_as_captum_at_the_same_integral(benchmark):
    plain, classifier = resnet50()
    image = np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)
    target = np.array([340])
    captum = CaptumIG(plain)
    found = {}

    def ours():
        found["ours"] = IntegratedGradients(steps=50).explain(classifier, image, target)

    def theirs():
        found["theirs"] = captum.attribute(torch.from_numpy(image), target=340, n_steps=50)

    ours()  # warm-up
    ratios = interleaved(theirs, ours, rounds=5)
    benchmark.extra_info["captum / ours"] = ratios
    benchmark.pedantic(ours, rounds=1)
    # Of the very weights that run, it is Captum's integral.
    same = CaptumIG(classifier.private_module(folded=True))
    same = same.attribute(torch.from_numpy(image), target=340, n_steps=50).detach().numpy()
    difference = relative(found["ours"].attributions, same)
    # Folding rounds the weights anew, and rounding flips ReLUs: in float32 nobody, Captum on the
    # user's own network included, is nearer to that network's integral than some thousandths.
    exact = integrated_in_float64(plain, image, 340)
    error = relative(found["ours"].attributions, exact)
    captums = relative(found["theirs"].detach().numpy(), exact)
    benchmark.extra_info["relative difference"] = difference
    benchmark.extra_info["relative error of ours, of captum's"] = [error, captums]
    print(
        f"\ncaptum / ours: {middle(ratios):.2f} of {np.round(ratios, 2)}; differ {difference:.1e} "
        f"on the same weights; off float64: ours {error:.1e}, captum's {captums:.1e}"
    )
    assert difference < 1e-3
    assert error < 2 * captums
    assert middle(ratios) >= 2.0


def test_grad_cam_costs_at_most_1_3_forward_passes(benchmark):
    plain, classifier = resnet50()
    images = np.random.default_rng(0).random((16, 3, 224, 224), dtype=np.float32)
    tensor, targets = torch.from_numpy(images), np.full(16, 340)

    def ours():
        GradCAM().explain(classifier, images, targets)

    def forward():
        classifier.scores(tensor)

    def plain_forward():
        with torch.inference_mode():
            plain(tensor)

    ours(), forward(), plain_forward()  # warm-up
    ratios = interleaved(ours, forward, rounds=9)
    against_plain = interleaved(ours, plain_forward, rounds=5)
    benchmark.extra_info["grad-cam / forward"] = ratios
    benchmark.extra_info["grad-cam / plain forward"] = against_plain
    benchmark.pedantic(ours, rounds=1)
    print(
        f"\ngrad-cam / our forward: {middle(ratios):.2f} of {np.round(ratios, 2)}; "
        f"/ the user's plain forward: {middle(against_plain):.2f}"
    )
    assert middle(ratios) <= 1.3
