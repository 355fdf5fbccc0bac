"""What the study published, and why our figure for the same word may be another.

The published figures are of one photograph of a cat. They are kept as text, digit by digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

EXPLAINERS = ("Grad-CAM", "IG")
MODELS = {"resnet50": "ResNet-50", "densenet121": "DenseNet-121"}
"""The study's models: name in torchvision -> name in the table."""

_COLUMNS = [(explainer, model) for explainer in EXPLAINERS for model in MODELS]


@dataclass(frozen=True)
class Row:
    """One row of the study's table.

    Attributes:
        metric: our metric, a name in `xai_core.METRICS`.
        label: the study's word for it.
        published: Grad-CAM ResNet-50, Grad-CAM DenseNet-121, IG ResNet-50, IG DenseNet-121.
        why: why the published figure and ours may differ, one line.
        settings: of our metric, where they are not its defaults.
    """

    metric: str
    label: str
    published: tuple[str, str, str, str]
    why: str
    settings: Mapping[str, object] = field(default_factory=dict)

    def published_for(self, explainer: str, model: str) -> str | None:
        """Return the published figure as printed; None for a model that the study lacks."""
        return dict(zip(_COLUMNS, self.published, strict=True)).get((explainer, model))


def rows(*, samples: int, seed: int) -> tuple[Row, ...]:
    """Return the rows in the study's order.

    Args:
        samples: noisy copies of an image for the stability.
        seed: of that noise.
    """
    return (
        Row(
            "iou",
            "IoU",
            (".3947", ".5515", ".2096", ".2229"),
            "one cat against a mean over our images: the share of the picture that its mask fills "
            "counts, and CLAHE's tiles and clip limit move the threshold",
        ),
        Row(
            "precision",
            "precision",
            (".4007", ".5681", ".2988", ".2843"),
            "a binarised map of the whole picture scores the share that the mask fills, so a cat "
            "that fills more of it scores higher",
        ),
        Row(
            "recall",
            "recall",
            (".9636", ".9496", ".4127", ".5077"),
            "recall .96 beside precision .40 is a binarised map 2.4 times as large as the cat; "
            "another CLAHE keeps another area",
        ),
        Row(
            "pointing_game",
            "pointing game",
            ("1", "1", "0", "1"),
            "one image gives 0 or 1, ours is a share of images; a hit is at most 15 px off the "
            "mask, the study's tolerance may differ",
        ),
        Row(
            "average_drop",
            "average drop %",
            ("99.9999", "99.9999", "9.9999", "23.7538"),
            "it hangs on how the map shades the image: ours is RGB x map scaled to [0, 1]; and "
            "one image can lose all or nothing",
        ),
        Row(
            "increase_in_confidence",
            "increase %",
            ("-99.9999", "-99.9999", "-9.9999", "-23.7538"),
            "not the same quantity: published is minus the drop; ours is the share of images "
            "whose confidence rises, never below 0",
        ),
        Row(
            "deletion",
            "deletion",
            ("6.88", "4.55", "9.28", "9.28"),
            "not the same quantity: ours is an area under a probability, at most 1; 6.88 cannot "
            "be that, a sum over steps could",
        ),
        Row(
            "insertion",
            "insertion",
            ("4.45", "7.78", ".94", ".94"),
            "not the same quantity where above 1, as for deletion; .94 could be an area, but "
            "hardly the same for two networks",
        ),
        Row(
            "active_fraction",
            "complexity (active fraction)",
            (".9451", ".9648", ".0500", ".0500"),
            "ours counts pixels above half of the maximum; .95 fits a count above almost 0, .0500 "
            "twice a cut at the 95th percentile",
        ),
        Row(
            "stability",
            "randomisation robustness (stability)",
            (".75", ".75", ".0054", ".0054"),
            "ours is the SSIM to maps under input noise; its level and the index of similarity "
            "set the scale, the study's may differ",
            {"samples": samples, "seed": seed},
        ),
    )
