"""What a test of a concept found, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from xai_core.arrays import Float64
from xai_core.statistics import Interval

if TYPE_CHECKING:
    from xai_core.concepts.tcav import TCAV

Verdict = Literal["present", "opposed", "absent", "undecided", "not learnt"]


@dataclass(frozen=True)
class TCAVResult:
    """What came of one concept, class and layer.

    Attributes:
        tcav: how it was tested.
        concept: name of the concept set.
        against: name of the counterexamples.
        model: name of the classifier.
        target: index of the class.
        layer: name of the layer.
        names: of the class's images, ``N``.
        concept_images: number of images of the concept.
        counterexamples: number of counterexamples.
        set_size: images in each set that a CAV tells apart.
        score: the TCAV score [Kim 2018]: share of images whose logit rises along the CAV, mean
            over the runs.
        score_interval: images and runs resampled.
        null_scores: mean and standard deviation of the scores of random sets.
        magnitude_score: the same share, each image weighed by the size of its sensitivity.
        sensitivities: derivative of the logit along the unit CAV, mean over the runs, ``[N]``.
        alignment: mean cosine between the images' gradients and the CAVs, in [-1, 1].
        null_alignments: mean, and standard deviation of one new observation, for random sets.
        detectable: the smallest alignment that so many random sets show with power 0.8.
        p: of the two-sided test.
        p_corrected: corrected for the number of ``tests`` [Holm 1979].
        tests: how many there were.
        logit_change: first-order change of the logit as the activations move by the mean
            difference between concept and counterexamples.
        effect: the same in standard deviations of the class's logit, its images and the
            counterexamples weighed equally.
        effect_interval: class images, concept images and counterexamples resampled.
        accuracy: of the CAVs on images that they were not fitted on, both sides weighed equally.
        accuracy_interval: Wilson's, with images as the unit.
        seconds: of wall time.
        passes: images that went through the classifier for it, none twice.
    """

    tcav: TCAV
    concept: str
    against: str
    model: str
    target: int
    layer: str
    names: tuple[str, ...]
    concept_images: int
    counterexamples: int
    set_size: int
    score: float
    score_interval: Interval
    null_scores: tuple[float, float]
    magnitude_score: float
    sensitivities: Float64 = field(repr=False)
    alignment: float
    null_alignments: tuple[float, float]
    detectable: float
    p: float
    p_corrected: float
    tests: int
    logit_change: float
    effect: float
    effect_interval: Interval
    accuracy: float
    accuracy_interval: Interval
    seconds: float = field(compare=False)
    passes: int = field(compare=False)

    @property
    def learnt(self) -> bool:
        """Whether the layer tells the concept from the counterexamples better than chance."""
        return self.accuracy_interval.low > 0.5

    @property
    def verdict(self) -> Verdict:
        """What the test says of the concept.

        - ``not learnt``: the CAVs are no better than chance on images they have not seen, so
          they are no direction of the concept, and nothing follows.
        - ``present``, ``opposed``: the class rests on the concept, or speaks against it, more
          than it does on random sets: the corrected p-value is below the level.
        - ``absent``: it does not, and the effect is proven to lie within the margin.
        - ``undecided``: neither is proven.
        """
        if not self.learnt:
            return "not learnt"
        if self.p_corrected < self.tcav.level:
            return "present" if self.alignment > self.null_alignments[0] else "opposed"
        interval, margin = self.effect_interval, self.tcav.margin
        return "absent" if -margin <= interval.low and interval.high <= margin else "undecided"

    @property
    def overlap(self) -> str:
        """How far the runs' counterparts share their images, in words."""
        needed, there = self.set_size * self.tcav.runs, self.counterexamples
        if needed <= there:
            return f"{self.tcav.runs} counterparts of {self.set_size}, none sharing an image"
        return (
            f"{self.tcav.runs} counterparts of {self.set_size} out of {there} images: each image "
            f"is in {needed / there:.1f} of them on average"
        )

    def headline(self) -> str:
        """Return the one line that says what was found."""
        centre, spread = self.null_scores
        low, high = self.effect_interval.low, self.effect_interval.high
        corrected = f"p = {self.p_corrected:.2g}"
        if self.tests > 1:
            corrected += f" ({self.tests} tests, Holm)"
        return (
            f"{self.verdict}: score {self.score:.2f} ({self.score_interval.low:.2f}.."
            f"{self.score_interval.high:.2f}, random sets {centre:.2f} +- {spread:.2f}), alignment "
            f"{self.alignment:+.3f} (detects {self.detectable:.3f}), {corrected}, effect "
            f"{self.effect:+.2f} ({low:+.2f}..{high:+.2f}), CAV accuracy {self.accuracy:.2f}, "
            f"n={len(self.names)}"
        )
