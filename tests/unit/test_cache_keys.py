"""A change of anything that a result depends on is a miss; a change of names is none."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cache_cases import CAM, COUNT, SMOOTH, Counting, Data, Run, classifier_of, configured, found
from torch import nn

from xai_core.cache import DiskCache, code
from xai_core.evaluation import Evaluation, Method
from xai_core.explainers import GradCAM, parse_explainer
from xai_core.metrics import ConfiguredMetric, Metric
from xai_core.postprocess import Gaussian


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DiskCache]:
    opened = DiskCache(tmp_path / "cache")
    yield opened
    opened.close()


def weight(run: Run) -> None:
    with torch.no_grad():
        value = run.net.out.bias[0]
        value.copy_(torch.nextafter(value, torch.tensor(1e9)))


def normalisation(run: Run) -> None:
    run.options["mean"] = (0.0, 1e-7, 0.0)


def attribute_of_a_layer(run: Run) -> None:
    run.net.scale = 1.5


def unsaved_buffer(run: Run) -> None:
    run.net.shift += 1


def hook(run: Run) -> None:
    run.net.out.register_forward_hook(lambda module, inputs, output: output * 2)


def forward_of_one_layer(run: Run) -> None:
    run.net.relu.forward = lambda images: nn.functional.gelu(images)  # type: ignore[method-assign]


CHANGES_OF_THE_CLASSIFIER = (
    weight,
    normalisation,
    attribute_of_a_layer,
    unsaved_buffer,
    hook,
    forward_of_one_layer,
)


@pytest.mark.parametrize("change", CHANGES_OF_THE_CLASSIFIER, ids=lambda change: change.__name__)
def test_another_classifier_is_a_miss(change: Callable[[Run], None], cache: DiskCache) -> None:
    Run.plain().measured(cache)
    changed = Run.plain()
    change(changed)
    at = changed.measured(cache)
    for stage in ("measure", "explain"):
        assert found(at, stage) == (0, COUNT)
    at.accuracy  # noqa: B018 - classifies
    assert found(at, "classify") == (0, COUNT)


def pixel(run: Run) -> None:
    run.data.images[2, 0, 0, 0] = np.nextafter(run.data.images[2, 0, 0, 0], np.float32(1))


def mask(run: Run) -> None:
    run.data.masks[2, 0, 0] ^= True


def background(run: Run) -> None:
    run.data.grounds[2, 0, 0] = (run.data.grounds[2, 0, 0] + 1) % 3


def target(run: Run) -> None:
    run.data.labels[2] = 0


@pytest.mark.parametrize("change", [pixel, mask, background, target], ids=lambda c: c.__name__)
def test_a_changed_image_is_a_miss_and_the_others_are_not(
    change: Callable[[Run], None], cache: DiskCache
) -> None:
    Run.plain().measured(cache)
    changed = Run.plain()
    change(changed)
    at = changed.measured(cache)
    assert found(at, "measure") == found(at, "explain") == (COUNT - 1, COUNT)
    assert at.costs["explain", "smooth"].gradients == 1


def test_a_class_of_background_by_another_name_is_a_miss(cache: DiskCache) -> None:
    Run.plain().measured(cache)
    changed = Run.plain()
    changed.data.classes = ("grass", "sea")
    assert found(changed.measured(cache), "measure") == (0, COUNT)


def parameter(run: Run) -> None:
    run.method = Method("smooth", GradCAM(layer="relu"), SMOOTH.postprocess)


def postprocessing(run: Run) -> None:
    run.method = Method("smooth", GradCAM(), (Gaussian(sigma=1.5),))


def null_map(run: Run) -> None:
    run.null = "sobel"


def setting(run: Run) -> None:
    run.metric = configured("insertion", steps=5)


def seed_of_the_metric(run: Run) -> None:
    run.metric = configured("insertion", steps=4, seed=1)


def seed_of_the_run(run: Run) -> None:
    run.seed = 1


def version(run: Run) -> None:
    declared = dict(vars(run.metric.metric)) | {"version": "rise-2019"}
    run.metric = ConfiguredMetric(Metric(**declared), run.metric.settings)


def metric(run: Run) -> None:
    run.metric = configured("deletion", steps=4)


CHANGES_OF_THE_MEASUREMENT = (
    parameter,
    postprocessing,
    null_map,
    setting,
    seed_of_the_metric,
    seed_of_the_run,
    version,
    metric,
)


@pytest.mark.parametrize("change", CHANGES_OF_THE_MEASUREMENT, ids=lambda change: change.__name__)
def test_another_measurement_is_a_miss(change: Callable[[Run], None], cache: DiskCache) -> None:
    Run.plain().measured(cache)
    changed = Run.plain()
    change(changed)
    assert found(changed.measured(cache), "measure") == (0, COUNT)


def test_null_maps_of_different_seeds_are_not_each_others(cache: DiskCache) -> None:
    run = Run.plain()
    run.null = "random"
    run.measured(cache)
    run.seed = 1
    assert found(run.measured(cache), "measure") == (0, COUNT)


def test_upside_down_is_of_its_method_and_other_null_maps_of_none(cache: DiskCache) -> None:
    for null, hits in (("inverted", 0), ("sobel", COUNT)):
        run = Run.plain()
        run.null = null
        run.measured(cache)
        run.method = CAM
        assert found(run.measured(cache), "measure") == (hits, COUNT)


def test_another_type_of_device_is_a_miss_and_another_of_the_type_is_not(cache: DiskCache) -> None:
    run = Run.plain()
    run.method, run.metric = Method("counting", Counting()), configured("iou")  # on no device
    run.measured(cache, device="cuda")
    assert found(run.measured(cache, device="cuda:1"), "measure") == (COUNT, COUNT)
    assert found(run.measured(cache, device="mps"), "measure") == (0, COUNT)


def test_other_code_is_a_miss(cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    Run.plain().measured(cache)
    monkeypatch.setattr(code, "_OWN", "of another version")
    at = Run.plain().measured(cache)
    assert found(at, "measure") == found(at, "explain") == (0, COUNT)


def test_the_code_is_every_source_file_of_the_library_and_the_versions_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "__file__", str(tmp_path / "cache" / "code.py"))
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/curves.py").write_text("x = 1\n")
    monkeypatch.setattr(code, "LOADED", float("inf"))
    plain = code._own_code()
    assert plain == code._own_code()
    (tmp_path / "metrics/curves.py").write_text("x = 2\n")
    changed = code._own_code()
    assert changed != plain
    monkeypatch.setattr(code, "_version_of", lambda name: "9.9" if name == "torch" else "1")
    assert len({plain, changed, code._own_code()}) == 3


def test_a_library_that_changes_while_it_is_loaded_keeps_nothing(
    cache: DiskCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(code, "LOADED", 0.0)
    monkeypatch.setattr(code, "_OWN", code._own_code())
    for _ in range(2):
        at = Run.plain().measured(cache)
        assert found(at, "measure") == found(at, "explain") == (0, 0)
    assert "results not kept: a source file of xai_core was changed" in caplog.text


def test_names_have_no_part_in_it(cache: DiskCache) -> None:
    Run.plain().measured(cache)
    renamed = Run.plain()
    renamed.data.prefix = "other"
    renamed.options["name"] = "renamed"
    renamed.method = Method("called otherwise", SMOOTH.explainer, SMOOTH.postprocess)
    at = renamed.measured(cache)
    assert found(at, "measure") == (COUNT, COUNT)
    assert at.measurements[0].method == "called otherwise"
    assert at.measurements[0].names[0] == "other_0"


OWN = """
from dataclasses import dataclass
from typing import ClassVar
from xai_core.explainers import Explanation
{imports}

@dataclass(frozen=True)
class Channel:
    kind: ClassVar[str] = "channel"
    needs: ClassVar[str] = "nothing"
    source: ClassVar[str] = "test"
    promises: ClassVar[frozenset] = frozenset()

    def explain(self, classifier, images, targets):
        {late}
        return Explanation(images[:, {index}].copy())
"""


def own_explainer(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> Method:
    """Write modules, and return the explainer of the one called ``own_maps``, loaded anew."""

    monkeypatch.syspath_prepend(folder)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return Method("own", importlib.import_module("own_maps").Channel())


def maps_of(method: Method, folder: Path) -> Evaluation:
    at = Evaluation(classifier_of(), Data.plain().made(), cache=DiskCache(folder))
    at.explain(method)
    return at


@pytest.mark.parametrize(
    ("imports", "late"),
    [("from own_index import INDEX", ""), ("", "from own_index import INDEX")],
    ids=["imported", "imported when it runs"],
)
def test_an_own_explainer_whose_code_changed_is_a_miss(
    imports: str, late: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = OWN.format(imports=imports, late=late or "pass", index="INDEX")
    folder, modules = tmp_path / "cache", tmp_path / "modules"
    modules.mkdir()
    index = "import unrelated\nINDEX = {}\n"
    files = {"own_maps": text, "own_index": index.format(0), "unrelated": ""}
    hits = []
    for changed in (
        {},
        {},
        {"own_maps": text + "\n# another line\n"},
        {"own_index": index.format(1)},
        {"unrelated": "X = 1"},
    ):
        files |= changed
        method = own_explainer(modules, monkeypatch, **files)
        hits.append(found(maps_of(method, folder), "explain"))
    assert hits == [(0, COUNT), (COUNT, COUNT), (0, COUNT), (0, COUNT), (0, COUNT)]


def test_an_explainer_that_another_names_has_a_part_in_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    hits = []
    for index in (0, 0, 1):
        text = OWN.format(imports="", late="pass", index=index)
        own_explainer(tmp_path, monkeypatch, own_maps=text)
        method = Method("upside down", parse_explainer("inverted(of='own_maps:Channel')"))
        hits.append(found(maps_of(method, tmp_path / "cache"), "explain")[0])
    assert hits == [0, COUNT, 0]


def test_an_explainer_edited_during_the_run_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    text = OWN.format(imports="", late="pass", index=0)
    method = own_explainer(tmp_path, monkeypatch, own_maps=text)
    later = time.time() + 60
    os.utime(tmp_path / "own_maps.py", (later, later))
    at = maps_of(method, tmp_path / "cache")
    assert found(at, "explain") == (0, 0)
    assert caplog.text.count("own_maps.py was changed after it was loaded") == 1


def test_an_explainer_without_a_source_file_is_not_kept(cache: DiskCache) -> None:
    space: dict[str, Any] = {"__name__": "nowhere"}
    text = OWN.format(imports="", late="pass", index=0).replace("@dataclass(frozen=True)", "")
    exec(text, space)
    made = dataclass(frozen=True)(type("Channel", (space["Channel"],), {"__module__": "nowhere"}))
    at = Evaluation(classifier_of(), Data.plain().made(), cache=cache)
    at.explain(Method("own", made()))
    assert found(at, "explain") == (0, 0)
