"""Which concepts do the images of a class show: candidates by clustering their segments (ACE).

Automatic concept-based explanations [Ghorbani 2019]: the images of a class are cut into segments
of several sizes; each segment, alone and enlarged to the classifier's size, is embedded at a
layer; what lies together there is a candidate for a concept. A candidate is a set of images as
any concept: `save_candidate` makes a folder of it, and TCAV says whether the class rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from xai_core.arrays import Bool, Float32, Float64, Int64
from xai_core.classifier import Classifier
from xai_core.concepts.segments import Cutting, embedded_segments, images_alone
from xai_core.errors import ConceptError, MissingExtraError
from xai_core.imageset import ImageSet
from xai_core.parameters import require

Rule = Literal["widespread", "common", "frequent"]
"""Why ACE keeps a cluster; see `rule_of`."""

_STARTS = 10


@dataclass(frozen=True)
class Clustering:
    """How segments become candidates; the defaults are ACE's.

    Attributes:
        clusters: k of k-means.
        fewest: segments that a cluster must have; a concept of fewer images is not tested.
        most: segments that a candidate takes, those nearest to the cluster's centre.
        seed: of k-means.

    Raises:
        ParameterError: a value out of range.
    """

    clusters: int = 25
    fewest: int = 20
    most: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.clusters >= 2, f"`clusters` must be at least 2, got {self.clusters}")
        require(self.fewest >= 1, f"`fewest` must be at least 1, got {self.fewest}")
        require(
            self.most >= self.fewest,
            f"`most` must be at least `fewest`, {self.fewest}: got {self.most}",
        )
        require(0 <= self.seed < 2**32, f"`seed` must be from 0 to 2**32 - 1, got {self.seed}")


@dataclass(frozen=True, eq=False)
class Candidate:
    """Segments that the classifier takes for alike, the nearest to their mean first.

    Attributes:
        name: the class and the candidate's rank, e.g. ``"zebra_01"``.
        images: name of the image that each segment is of, ``n``.
        masks: where it lies in that image, bool ``[n, H, W]``.
        crops: the segment alone as the classifier saw it, RGB in [0, 1] in whole 255ths, float32
            ``[n, 3, h, w]``; see `Cutting`.
        distances: of its embedding from the cluster's centre, Euclidean, float64 ``[n]``.
        size: segments in the cluster, of which the candidate takes ``n``.
        spread: different images in the cluster.
        cohesion: 1 - (mean squared distance of the cluster's segments from its centre) / (that of
            all segments from theirs): 1 where all are alike, 0 where they scatter as all do, below
            0 where they scatter more.
        rule: why ACE keeps the cluster.
    """

    name: str
    images: tuple[str, ...]
    masks: Bool = field(repr=False)
    crops: Float32 = field(repr=False)
    distances: Float64 = field(repr=False)
    size: int
    spread: int
    cohesion: float
    rule: Rule


@dataclass(frozen=True, eq=False)
class Discovered:
    """The candidates of a class, and what they come from.

    Attributes:
        candidates: those in most images first; equal ones by size, then by cohesion.
        images: how many different images were cut.
        segments: how many segments they gave, duplicates removed.
        dropped: reason -> how many clusters are no candidates for it.
    """

    candidates: tuple[Candidate, ...]
    images: int
    segments: int
    dropped: Mapping[str, int]


def discover_concepts(
    classifier: Classifier,
    images: ImageSet,
    *,
    label: int | None = None,
    at: str | None = None,
    cutting: Cutting | None = None,
    clustering: Clustering | None = None,
) -> Discovered:
    """Return candidate concepts in the images of a class [Ghorbani 2019].

    Segments are embedded as a layer's activations averaged over its places and clustered by
    k-means. A cluster is kept by its number of segments and of images; see `rule_of`. ACE ranks
    what is left by its TCAV score; here the order is that of how many images a candidate is in,
    and TCAV is for the caller to ask. Equal images count once. The result depends on nothing but
    the arguments: k-means is seeded and runs on one thread.

    One forward pass for each segment. In memory: the segments as bits and embeddings, and the
    images of the candidates; the set is decoded one image at a time, twice.

    Args:
        classifier: whose layers can be read.
        images: 50 or so of one class.
        label: take only the images of this class; None = all.
        at: the layer's name; None = the classifier's default layer.
        cutting: how images become segments; None = as ACE does.
        clustering: how segments become candidates; None = as ACE does.

    Raises:
        ImageSetError: no image of that label.
        ConceptError: fewer different segments than clusters.
        ClassifierError: the classifier's layers cannot be reached (ONNX).
        LayerError: ``at`` names no layer, or one without space.
        MissingExtraError: scikit-learn is not installed.
    """
    _require_scikit_learn()
    cutting, clustering = cutting or Cutting(), clustering or Clustering()
    if label is not None:
        images = images.of_label(label)
    segments = embedded_segments(classifier, images, cutting, at=at)
    points = segments.points
    different = len(np.unique(points, axis=0))
    if different < clustering.clusters:
        msg = (
            f"{images.name}: {len(points)} segments with {different} different embeddings cannot "
            f"make {clustering.clusters} clusters; give more images, cut them finer, or ask for "
            "fewer clusters"
        )
        raise ConceptError(msg)
    clusters, distances = _clustered(points, clustering)
    found, dropped = _kept(clusters, segments.owners, segments.images, clustering)
    scatter = float(np.square(points - points.mean(axis=0)).sum(axis=1).mean())
    cohesions = [1 - float(np.square(distances[one.members]).mean()) / scatter for one in found]
    order = sorted(
        range(len(found)),
        key=lambda i: (-found[i].spread, -len(found[i].members), -cohesions[i]),
    )

    nearest = [_nearest(found[i].members, distances, clustering.most) for i in order]
    chosen = np.sort(np.concatenate(nearest)) if nearest else np.empty(0, dtype=np.int64)
    crops = images_alone(classifier, images, segments, chosen, cutting)
    stem = images.name if label is None else images.classes.get(label, f"class{label}")
    candidates = tuple(
        Candidate(
            name=f"{stem}_{rank:02d}",
            images=tuple(images.names[owner] for owner in segments.owners[best].tolist()),
            masks=segments.masks(best),
            crops=np.stack([crops[index] for index in best.tolist()]),
            distances=distances[best],
            size=len(found[i].members),
            spread=found[i].spread,
            cohesion=cohesions[i],
            rule=found[i].rule,
        )
        for rank, (i, best) in enumerate(zip(order, nearest, strict=True), start=1)
    )
    return Discovered(candidates, segments.images, len(points), dropped)


def rule_of(size: int, spread: int, images: int) -> Rule | None:
    """Return why a cluster is kept, None where it is not, as the authors' program decides it.

    ``widespread``: its images are more than half its segments. ``common``: they are more than a
    quarter of its segments and more than a quarter of all images. ``frequent``: they are more
    than a tenth of its segments and more than half of all images. What is left out is much of
    one image, or little of few.

    >>> rule_of(size=30, spread=16, images=100), rule_of(size=30, spread=10, images=100)
    ('widespread', None)

    Args:
        size: segments in the cluster.
        spread: different images among them.
        images: all images that were cut.
    """
    if 2 * spread > size:
        return "widespread"
    if 4 * spread > size and 4 * spread > images:
        return "common"
    if 10 * spread > size and 2 * spread > images:
        return "frequent"
    return None


@dataclass(frozen=True)
class _Cluster:
    members: Int64
    spread: int
    rule: Rule


def _kept(
    clusters: Int64, owners: Int64, images: int, clustering: Clustering
) -> tuple[list[_Cluster], dict[str, int]]:
    """Return the clusters that are candidates, and why how many others are not."""
    kept = []
    dropped = {f"fewer than {clustering.fewest} segments": 0, "much of few images": 0}
    few, much = dropped
    for cluster in range(clustering.clusters):
        members = np.flatnonzero(clusters == cluster)
        spread = len(np.unique(owners[members]))
        rule = rule_of(len(members), spread, images)
        if len(members) < clustering.fewest:
            dropped[few] += 1
        elif rule is None:
            dropped[much] += 1
        else:
            kept.append(_Cluster(members, spread, rule))
    return kept, {reason: count for reason, count in dropped.items() if count}


def _clustered(points: Float64, clustering: Clustering) -> tuple[Int64, Float64]:
    """Return the cluster of each segment and its distance from the cluster's centre."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    # Threads add up in another order each time, and a tie then falls either way.
    with threadpool_limits(limits=1):
        means = KMeans(clustering.clusters, n_init=_STARTS, random_state=clustering.seed)
        clusters = means.fit(points).labels_.astype(np.int64)
    away = points - means.cluster_centers_[clusters]
    return clusters, np.sqrt(np.square(away).sum(axis=1))


def _nearest(members: Int64, distances: Float64, most: int) -> Int64:
    return members[np.argsort(distances[members], kind="stable")[:most]]


def _require_scikit_learn() -> None:
    try:
        import sklearn.cluster  # noqa: F401  before any image is cut
    except ImportError:
        raise MissingExtraError(
            "discovering concepts", package="scikit-learn", extra="concepts"
        ) from None
