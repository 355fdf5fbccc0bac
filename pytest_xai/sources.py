"""Where models, images and concepts come from, of all places that may say so.

One precedence: command line > threshold file > ini > default.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytest_xai.concept_sources import ConceptSource
from pytest_xai.image_sources import ImageSource
from pytest_xai.predicted_masks import with_masks_of
from pytest_xai.settings import Settings, chosen
from pytest_xai.threshold_files import DEMO_MODELS
from pytest_xai.thresholds import DataTable, ModelTable, ThresholdFile
from xai_core.classifier import Classifier, load_classifier
from xai_core.errors import XaiError
from xai_core.imageset import ImageSet, load_imageset


class Sources:
    """What the settings and the threshold files say.

    Args:
        settings: of the run.
        root: the folder that paths in ini and threshold files are relative to.
    """

    def __init__(self, settings: Settings, root: Path) -> None:
        self._settings = settings
        self._root = root

    @property
    def seed(self) -> int:
        """Seed of everything random that does not set its own."""
        return chosen(self._settings.seed, self._settings.ini_seed) or 0

    def image_sources(
        self, model: str, thresholds: ThresholdFile | None
    ) -> tuple[ImageSource, ...]:
        """Return the image sets that ``model`` is explained on; none where nothing names one."""
        table = thresholds.data if thresholds else DataTable()
        if self._settings.data:
            return self._settings.data
        if table.paths is not None:
            return tuple(
                ImageSource(name, self.under_root(path)) for name, path in table.paths.items()
            )
        if table.path is not None:
            return (ImageSource.of(self.under_root(table.path)),)
        if model in DEMO_MODELS:
            return (ImageSource.of("demo"),)
        if self._settings.ini_data is not None:
            return (ImageSource.of(self.under_root(self._settings.ini_data)),)
        return ()

    def concept_source(self, model: str, thresholds: ThresholdFile | None) -> ConceptSource:
        """Return where the concepts of ``model`` come from."""
        settings, table = self._settings, thresholds.data if thresholds else DataTable()
        library = settings.concepts
        if library is None and table.concepts is not None:
            library = self.under_root(table.concepts)
        if library is None and settings.ini_concepts is not None:
            library = self.under_root(settings.ini_concepts)
        if library is None and model in DEMO_MODELS:
            library = "demo"
        specs = thresholds.concepts if thresholds else ()
        own = tuple((spec.name, spec.images) for spec in specs if spec.images is not None)
        return ConceptSource(library, own, thresholds.shown if thresholds else None)

    def load_classifier(self, model: str, table: ModelTable) -> Classifier:
        """Return the classifier called ``model``.

        Raises:
            XaiError: it cannot be loaded.
        """
        settings = self._settings
        weights = settings.weights_of(model)
        if weights is None and table.weights is not None:
            weights = self.under_root(table.weights)
        return load_classifier(
            table.spec or model,
            weights=weights,
            device=chosen(settings.device, settings.ini_device) or "cpu",
            batch_size=chosen(settings.batch, settings.ini_batch),
            size=table.size,
            normalization=table.normalization,
            num_classes=table.num_classes,
            seed=self.seed,
            name=model,
        )

    def load_images(
        self, classifier: Classifier, thresholds: ThresholdFile | None, source: ImageSource
    ) -> ImageSet:
        """Return the images of ``source`` as ``classifier`` sees them.

        Raises:
            XaiError: they, or what predicts their masks, cannot be loaded.
        """
        table = thresholds.data if thresholds else DataTable()
        images = load_imageset(
            source.path,
            transform=table.transform,
            size=classifier.size,
            limit=chosen(self._settings.limit, table.limit, self._settings.ini_limit),
            num_classes=classifier.num_classes,
            **self.coco_options(table, source),
        )
        if thresholds is None or table.predicted_masks is None:
            return images
        return with_masks_of(
            self.under_root(table.predicted_masks),
            images,
            shown=table.predicted_masks,
            place=thresholds.places["predicted_masks"],
            device=classifier.device,
        )

    def coco_options(self, table: DataTable, source: ImageSource) -> dict[str, Any]:
        """Return what the threshold file says of its COCO file, unless ``source`` is no such."""
        meant = [path for path in (table.paths or {}).values() if path.endswith(".json")]
        if (self._settings.data or meant) and not source.path.endswith(".json"):
            return {}
        images = None if table.images is None else self.under_root(table.images)
        return {"images": images, "labels": table.labels}

    def image_source(
        self, model: str, thresholds: ThresholdFile | None, data: str | None
    ) -> ImageSource:
        """Return one of the model's `image_sources`; the first where ``data`` is None.

        Raises:
            XaiError: nothing names any.
        """
        sources = self.image_sources(model, thresholds)
        if not sources:
            msg = (
                f"no images for {model}: give --xai-data PATH, or `path` under [data] in its "
                "threshold file, or the ini xai_data"
            )
            raise XaiError(msg)
        return next(source for source in sources if data in (None, source.name))

    def under_root(self, path: str) -> str:
        """Return a path of the project, relative to the root; other texts as they are."""
        under = self._root / path
        return os.fspath(under) if under.exists() else path
