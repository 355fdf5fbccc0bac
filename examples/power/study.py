"""Plant defects in good classifiers and ask the gates: which are caught, and what is cried wolf.

    python examples/power/study.py run demo --work FOLDER
    python examples/power/study.py run photographs --work FOLDER --data FOLDER --weights FILE
    python examples/power/study.py report --work FOLDER

``run`` goes on where it stopped: what was measured is a line in ``FOLDER/demo.jsonl`` or
``photographs.jsonl``, and networks that were trained are files beside it. ``report`` tells of what
is on file. The README beside this file says what came of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import trained_networks
from candidate_gates import (
    DEMO,
    DEMO_IG_STEPS,
    PHOTOGRAPH_IG_STEPS,
    PHOTOGRAPHS,
    Candidate,
    measured,
)
from detection import GOOD, OneNetworkStudy, Recorded, Study, together
from planted_defects import Bench, Condition, planted
from power_plot import plot
from power_table import of_larger_sets, report

from xai_core import (
    Classifier,
    Evaluation,
    GradCAM,
    IntegratedGradients,
    Method,
    Sample,
    TorchClassifier,
    XaiError,
    load_classifier,
    load_imageset,
)
from xai_core.arrays import Float32, Int64
from xai_core.demo.network import MEAN, STD, DemoNet
from xai_core.demo.scenes import CLASSES, Watermark, scene

SHORTCUTS, SHUFFLED = (0.3, 0.6, 1.0), (0.3, 1.0)
_HELD_OUT, _FIRST_HELD_OUT = 300, 2_000_000
CODE_ONLY = frozenset(
    one.name for one in planted(early_layer="", late_layer="", last_block=()) if one.code_only
)
"""Conditions that change only the code around weights and images: their names are the same for
every network, and records have nothing else of them."""
BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
"""What encloses the part of a page that tells of one study."""
_SETS, _TOGETHER = 12, 3
_SHOWN = "(default: %(default)s)"


@dataclass(frozen=True)
class Subject:
    """One good classifier and what is to be planted in it.

    Attributes:
        seed: of the network; of photographs, the number of their set.
        bench: the good classifier with its images.
        conditions: what is planted.
        candidates: what is measured.
        spared: the method that costs too much to be asked of every defect: only of the mistakes
            in its own code, and of what is harmless.
    """

    seed: int
    bench: Bench
    conditions: Sequence[Condition]
    candidates: Sequence[Candidate]
    spared: str = ""

    def asked(self, condition: Condition) -> list[Candidate]:
        """Return what is measured under a condition: everything of the good classifier."""
        if condition.name == GOOD:
            return list(self.candidates)
        return [
            one
            for one in self.candidates
            if moves(condition, one)
            and (one.method != self.spared or one.method == condition.part or not condition.harmful)
        ]


def run(subjects: Iterator[Subject], path: Path) -> None:
    """Measure what is not on file yet, a line for each network and condition."""
    done = {(one.seed, one.condition) for one in read(path)}
    for subject in subjects:
        nothing = Condition(GOOD, False, "weights", lambda bench, _: bench)
        good = Evaluation(subject.bench.classifier(), subject.bench.images())
        for condition in (nothing, *subject.conditions):
            if (subject.seed, condition.name) in done:
                continue
            started = time.perf_counter()
            found = measure(subject, condition, good)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            seconds = time.perf_counter() - started
            print(f"{path.stem} {subject.seed}: {condition.name}, {seconds:.1f} s", flush=True)


def measure(subject: Subject, condition: Condition, good: Evaluation) -> dict[str, object]:
    """Return the record of one condition: accuracies, and the values of every gate it can move.

    Args:
        subject: in which it is planted.
        condition: what is planted.
        good: the evaluation of the bench as it is, for what a defect of an explainer leaves alone.
    """
    bench = condition.plant(subject.bench, subject.seed)
    with bench.arithmetic():
        evaluation = good
        if condition.part in ("weights", "input", "masks"):
            evaluation = Evaluation(bench.classifier(), bench.images())
        # A set is in the order of its names; records are in that of the samples.
        rows = [evaluation.images.names.index(sample.name) for sample in bench.samples]
        values = measured(subject.asked(condition), evaluation, bench.methods)
        # Explainers and masks have no part in the accuracy.
        kinds = bench.held_out if condition.part in ("weights", "input") else {}
        accuracy = {
            kind: _accuracy(evaluation.classifier, images, labels)
            for kind, (images, labels) in kinds.items()
        }
    return {
        "seed": subject.seed,
        "condition": condition.name,
        "harmful": condition.harmful,
        "retrained": condition.retrained,
        "accuracy": accuracy,
        "values": {name: _plain(found[rows]) for name, found in values.items()},
    }


def moves(condition: Condition, candidate: Candidate) -> bool:
    """Return whether a condition can change what a candidate measures.

    Explainers agree with a second implementation of their own whatever the network.
    """
    if condition.part == "masks":
        return "masks" in candidate.needs
    if candidate.with_itself:
        return condition.part == candidate.method
    return condition.part in ("weights", "input", candidate.method)


def read(path: Path) -> list[Recorded]:
    """Return what is on file; a last line that a stopped run left half written is no line."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            one = json.loads(line)
        except json.JSONDecodeError:
            continue
        values = {
            name: np.array([np.nan if value is None else value for value in row])
            for name, row in one["values"].items()
        }
        found.append(
            Recorded(
                one["seed"],
                one["condition"],
                one["harmful"],
                one["retrained"],
                one["accuracy"],
                values,
                one["condition"] in CODE_ONLY,
            )
        )
    return found


# The demo


def demo_subjects(seeds: int, images: int, work: Path) -> Iterator[Subject]:
    """Yield networks of seeds 1 and up on the demo's scenes."""
    samples = tuple(load_imageset("demo", size=(64, 64), limit=images))
    kinds: dict[str, Watermark] = {"as trained": "class", "free watermark": "random"}
    held_out = {kind: _scenes(watermark) for kind, watermark in kinds.items()}
    methods = (Method("gradcam", GradCAM()), Method("ig", IntegratedGradients(steps=DEMO_IG_STEPS)))
    last_block = ("features", "linear")
    untrained = planted(early_layer="stem", late_layer="body.3", last_block=last_block)
    folder = work / "networks"
    for seed in range(1, seeds + 1):
        network = trained_networks.good(seed, folder)
        bench = Bench(network, (64, 64), MEAN, STD, samples, held_out, methods)
        yield Subject(seed, bench, [*untrained, *_retrained(folder)], DEMO)


def _retrained(folder: Path) -> Iterator[Condition]:
    for share in SHORTCUTS:
        make = partial(trained_networks.shortcut, share=share, folder=folder)
        yield _of_network(f"shortcut {share:.0%}", make)
    for share in SHUFFLED:
        make = partial(trained_networks.mislabelled, share=share, folder=folder)
        yield _of_network(f"shuffled labels {share:.0%}", make)


def _of_network(name: str, make: Callable[[int], DemoNet]) -> Condition:
    def plant(bench: Bench, seed: int) -> Bench:
        return replace(bench, module=make(seed))

    return Condition(name, True, "weights", plant, retrained=True)


def _scenes(watermark: Watermark) -> tuple[Float32, Int64]:
    drawn = [
        scene(_FIRST_HELD_OUT + index, label=index % len(CLASSES), watermark=watermark)
        for index in range(_HELD_OUT)
    ]
    labels = np.array([one.label for one in drawn], dtype=np.int64)
    return np.stack([one.image for one in drawn]), labels


# Photographs


def photograph_subjects(data: str, weights: str) -> Iterator[Subject]:
    """Yield ResNet-50 on twelve sets of photographs, eight or so in each."""
    classifier = load_classifier("resnet50", weights=weights)
    assert isinstance(classifier, TorchClassifier)
    module = dict(classifier.private_module().named_children())["model"]
    everything = list(load_imageset(data, size=classifier.size))
    held_out = {"as trained": _labelled(everything)}
    ig = IntegratedGradients(steps=PHOTOGRAPH_IG_STEPS)
    methods = (Method("gradcam", GradCAM()), Method("ig", ig))
    conditions = planted(early_layer="layer1", late_layer="layer3", last_block=("layer4",))
    for number in range(_SETS):
        # Photographs of one class stand together: every set gets some of all.
        samples = tuple(everything[number::_SETS])
        size, mean, std = classifier.size, classifier.mean, classifier.std
        bench = Bench(module, size, mean, std, samples, held_out, methods)
        # The weights are the same in every set, and so is their accuracy.
        bench = bench if number == 0 else replace(bench, held_out={})
        yield Subject(number + 1, bench, conditions, PHOTOGRAPHS, spared="ig")


def _labelled(samples: Sequence[Sample]) -> tuple[Float32, Int64]:
    labels = [-1 if one.label is None else one.label for one in samples]
    return np.stack([one.image for one in samples]), np.array(labels, dtype=np.int64)


def _accuracy(classifier: Classifier, images: Float32, labels: Int64) -> float:
    predicted = classifier.scores(torch.from_numpy(images)).argmax(1).numpy()
    return float((predicted == labels).mean())


def _plain(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in values]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 where what the user gave cannot be used."""
    given = _arguments(argv)
    given.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    try:
        if given.command == "run" and given.what == "demo":
            run(demo_subjects(given.seeds, given.images, given.work), given.work / "demo.jsonl")
        elif given.command == "run":
            run(photograph_subjects(given.data, given.weights), given.work / "photographs.jsonl")
        else:
            _report(given)
    except XaiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _report(given: argparse.Namespace) -> None:
    demo = Study(read(given.work / "demo.jsonl"), DEMO, alpha=given.alpha)
    records = read(given.work / "photographs.jsonl")
    photographs = OneNetworkStudy(records, PHOTOGRAPHS, alpha=given.alpha)
    page = ""
    if given.markdown and given.markdown.is_file():
        page = given.markdown.read_text(encoding="utf-8")
    parts = {}
    if demo.seeds:
        parts["demo"] = report("The demo", demo)
    if photographs.seeds:
        parts["photographs"] = report("Photographs", photographs)
        larger = OneNetworkStudy(together(records, _TOGETHER), PHOTOGRAPHS, alpha=given.alpha)
        if larger.seeds:
            parts["photographs"] += f"\n{of_larger_sets(larger)}\n"
    for name, text in parts.items():
        print(text)
        page = between_marks(page, name, text)
    if given.markdown:
        given.markdown.write_text(page, encoding="utf-8")
    if given.plot and demo.seeds:
        plot(demo, given.plot)


def between_marks(page: str, name: str, text: str) -> str:
    """Return a page with ``text`` between the marks of one study, which are added at its end.

    >>> old = f"a {BEGIN.format('x')} b {END.format('x')} c"
    >>> between_marks(old, "x", "new")
    'a <!-- x: begin -->\\n\\nnew\\n<!-- x: end --> c'
    """
    begin, end = BEGIN.format(name), END.format(name)
    if begin not in page or end not in page:
        return f"{page}{begin}\n\n{text}\n{end}\n"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n{text}\n{end}{rest.partition(end)[2]}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    work = argparse.ArgumentParser(add_help=False)
    work.add_argument("--work", type=Path, required=True, help="folder of records and networks")
    running = commands.add_parser("run", parents=[work], help="measure what is not on file yet")
    running.add_argument("what", choices=("demo", "photographs"))
    running.add_argument("--seeds", type=int, default=48, help=f"networks of the demo {_SHOWN}")
    running.add_argument("--images", type=int, default=24, help=f"of the demo {_SHOWN}")
    running.add_argument("--data", default="", help="photographs: images/, masks/, labels.csv")
    running.add_argument("--weights", default="", help="of ResNet-50")
    reporting = commands.add_parser("report", parents=[work], help="table and plot")
    reporting.add_argument("--alpha", type=float, default=0.01, help=f"false alarms a run {_SHOWN}")
    reporting.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="written; of a file that has them only what stands between the marks of a study",
    )
    reporting.add_argument("--plot", type=Path, metavar="FILE", help="a PNG")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
