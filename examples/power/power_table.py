"""The study's tables in Markdown: what is caught, by which gate, and which gates are enough."""

from __future__ import annotations

import math
import statistics
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from candidate_gates import Candidate
from detection import ANOTHER_SEED, WAYS, Study, Way
from rates import Pair, Rate, by_what_they_add, rate, smallest_covers

import xai_core.demo

_COMMITTED = Path(xai_core.demo.__file__).with_name("demo.toml")
_OTHER_PROTOCOL = ("insertion", "faithfulness_gap")
"""Metrics that the study measures with fewer steps than the committed file."""
_BLIND = 0.95
_NAMED = 3

THRESHOLDS: tuple[Way, ...] = ("threshold",)
MARGINS: tuple[Way, ...] = ("other training", "same training")
REPRODUCTION: tuple[Way, ...] = ("reproduction",)
TRAINED_AGAIN: tuple[Way, ...] = ("threshold", "other training")
"""What is left to ask where the last release has other weights, of another training run."""


def report(title: str, study: Study) -> str:
    """Return everything that is said of one study, as Markdown."""
    return "\n\n".join([f"## {title}", *_of_study(study)]) + "\n"


def _of_study(study: Study) -> list[str]:
    harmless, subtle = study.pairs(alarms(study)), _subtle(study)
    return [
        summary(study),
        "### By defect",
        _by_condition(study),
        "### By gate",
        _by_gate(study, subtle, harmless),
        "### The smallest set",
        _smallest(study, subtle, harmless),
    ]


def of_larger_sets(study: Study) -> str:
    """Return what is said of the same images in fewer sets, as Markdown."""
    images = statistics.median(study.images(seed) for seed in study.seeds)
    return "\n\n".join(
        [
            f"### Sets of {images:.0f}",
            summary(study),
            _smallest(study, _subtle(study), study.pairs(alarms(study))),
        ]
    )


def _subtle(study: Study) -> list[Pair]:
    return [pair for pair in study.pairs(study.harmful) if study.is_subtle(pair)]


def summary(study: Study) -> str:
    """Return how much is caught in which way, and how much cries wolf, as a list."""
    harmful, harmless = study.pairs(study.harmful), study.pairs(alarms(study))
    subtle = _subtle(study)
    asked = [pair for pair in subtle if "reproduction" in study.ways(pair)]
    lines = [
        f"{len(study.seeds)} {study.unit}, {len(study.candidates)} gates.\n",
        f"- Caught of all defects: {_caught(study, harmful, WAYS)}.",
        f"- Caught of those that cost less than two points of accuracy: "
        f"{_caught(study, subtle, WAYS)}; by thresholds alone "
        f"{_caught(study, subtle, THRESHOLDS)}, by margins against the last release alone "
        f"{_caught(study, subtle, MARGINS)}, by the two together "
        f"{_caught(study, subtle, (*THRESHOLDS, *MARGINS))}.",
        f"- By reproduction alone, of the {len(asked)} of these in which only code differs, which "
        f"are asked: {_caught(study, asked, REPRODUCTION)}; by nothing else "
        f"{_only_reproduced(study, asked)}.",
        f"- Harmless changes that fail: {_caught(study, harmless, WAYS)}.",
        f"- {_gap(study)}",
        f"- Blind spots, caught less than {_BLIND}: {_blind(study, WAYS)}.",
    ]
    if "other training" in _ways(study):
        lines.append(
            f"- Where the last release has other weights, of another training run, there are "
            f"thresholds and wide margins alone: caught "
            f"{_caught(study, subtle, TRAINED_AGAIN)}; blind spots then: "
            f"{_blind(study, TRAINED_AGAIN)}."
        )
    return "\n".join(lines)


def alarms(study: Study) -> list[str]:
    """Return the conditions under which no gate ought to fail."""
    return [*([ANOTHER_SEED] if "other training" in _ways(study) else []), *study.harmless]


def _ways(study: Study) -> set[Way]:
    return {way for pair in study.pairs([ANOTHER_SEED]) for way in study.ways(pair)}


def _caught(study: Study, pairs: Iterable[Pair], ways: tuple[Way, ...]) -> Rate:
    return rate(pairs, lambda pair: bool(study.caught_by(pair, ways)))


def _only_reproduced(study: Study, pairs: Iterable[Pair]) -> Rate:
    others = (*THRESHOLDS, *MARGINS)
    return rate(pairs, lambda p: bool(study.caught_by(p, WAYS)) and not study.caught_by(p, others))


def _blind(study: Study, ways: tuple[Way, ...]) -> str:
    rates = {name: _caught(study, study.pairs([name]), ways) for name in study.harmful}
    blind = [f"{name} {found}" for name, found in rates.items() if found.share < _BLIND]
    return ", ".join(blind) or "none"


def _gap(study: Study) -> str:
    """Return how far apart reproduction has harmless and harmful changes of code."""
    moved = {}
    for harmful, names in ((True, study.harmful), (False, study.harmless)):
        pairs = [p for p in study.pairs(names) if "reproduction" in study.ways(p)]
        moved[harmful] = [share for p in pairs if not math.isnan(share := study.most_moved(p))]
    return (
        f"Images that were not reproduced, in the gate where most were not: under harmless changes "
        f"of code at most {_two(max(moved[False], default=math.nan))} of them, under defects at "
        f"least {_two(min(moved[True], default=math.nan))}; fails above 0.50."
    )


def _by_condition(study: Study) -> str:
    elsewhere = _is_the_demo(study)
    fixed = committed(study.candidates, _COMMITTED) if elsewhere else {}
    head = ["change", "accuracy", *(["without leak"] if elsewhere else [])]
    head += ["moves", "caught", "thresholds", "margins", "reproduction"]
    head += ["demo.toml"] if fixed else []
    rows = [[*head, "most often by"]]
    for condition in (*study.harmful, *alarms(study)):
        pairs = study.pairs([condition])
        row = [condition if condition in study.harmful else f"*{condition}*"]
        row.append(_points([study.accuracy_change(pair) for pair in pairs]))
        if elsewhere:
            row.append(_points([study.accuracy_change(pair, "free watermark") for pair in pairs]))
        moves = [found for pair in pairs if not math.isnan(found := study.movement(pair))]
        row.append(f"{float(np.median(moves)):.1f}" if moves else "-")
        row.append(str(_caught(study, pairs, WAYS)))
        row += [_two(_caught(study, pairs, ways).share) for ways in (THRESHOLDS, MARGINS)]
        asked = [pair for pair in pairs if "reproduction" in study.ways(pair)]
        row.append(_two(_caught(study, asked, REPRODUCTION).share) if asked else "-")
        if fixed:
            row.append(_two(rate(pairs, lambda pair: _fails_committed(study, pair, fixed)).share))
        rows.append([*row, _most_often(study, pairs)])
    return _markdown(rows)


def _is_the_demo(study: Study) -> bool:
    """Return whether there is a second accuracy, on images whose watermark says nothing."""
    return any(study.accuracy_change(p, "free watermark") for p in study.pairs(study.harmful))


def _most_often(study: Study, pairs: Sequence[Pair]) -> str:
    counts: dict[str, int] = {}
    for pair in pairs:
        for gate in study.caught_by(pair):
            counts[gate] = counts.get(gate, 0) + 1
    first = sorted(counts, key=lambda gate: (-counts[gate], gate))[:_NAMED]
    return ", ".join(f"{gate} {_two(counts[gate] / len(pairs))}" for gate in first) or "-"


def _by_gate(study: Study, subtle: Sequence[Pair], harmless: Sequence[Pair]) -> str:
    margins = [way for way in MARGINS if way in _ways(study) | {"same training"}]
    head = ["gate", "threshold", *(f"margin, {way}" for way in margins)]
    asked = [pair for pair in subtle if "reproduction" in study.ways(pair)]
    rows = [[*head, "caught by threshold", "by margins", "by reproduction", "false alarms"]]
    for gate in study.candidates:
        bounds = [study.threshold(gate, seed) for seed in study.seeds]
        sign = "≥" if gate.higher else "≤"
        rows.append(
            [
                f"`{gate.name}`",
                f"{sign} {float(np.median(bounds)):.3f}",
                *(_median_margin(study, gate, way) for way in margins),
                *(str(_rate_of(study, gate, ways, subtle)) for ways in (THRESHOLDS, MARGINS)),
                str(_rate_of(study, gate, REPRODUCTION, asked)),
                str(_rate_of(study, gate, WAYS, harmless)),
            ]
        )
    return _markdown(rows)


def _median_margin(study: Study, gate: Candidate, way: Way) -> str:
    margins = [study.margin(gate, frozenset({seed}), way) for seed in study.seeds]
    return f"{float(np.median(margins)):.3f}"


def _rate_of(study: Study, gate: Candidate, ways: Collection[Way], pairs: Sequence[Pair]) -> Rate:
    return rate(pairs, lambda pair: any(study.fails(pair, gate, way) for way in ways))


def _smallest(study: Study, subtle: Sequence[Pair], harmless: Sequence[Pair]) -> str:
    """Return the set, what it grows to, and what a set chosen on half of the networks does."""
    there = in_file(study.candidates, _COMMITTED) if _is_the_demo(study) else frozenset()
    chosen, count, inside = _chosen(study, subtle, there)
    rows = [["gate", "caught with those above", "false alarms"]]
    names: set[str] = set()
    for gate in chosen:
        names |= {gate}
        rows.append(
            [
                f"`{gate}`",
                str(_with(study, names, subtle)),
                str(_with(study, names, harmless)),
            ]
        )
    half = [pair for pair in subtle if pair.seed % 2]
    other = [pair for pair in subtle if not pair.seed % 2]
    tried, _, _ = _chosen(study, half, there)
    held = f", {inside} of them of gates in `demo.toml`" if there else ""
    wide = "and wide margins alone" if "other training" in _ways(study) else "alone"
    alone = f"thresholds {wide}"
    notes = [
        f"Smallest sets that catch all that any gate does: {count} of {len(chosen)} gates{held}. "
        f"The one above catches the most by {alone}: "
        f"{_with(study, chosen, subtle, TRAINED_AGAIN)}.",
        f"Chosen on every other of the {study.unit} ({len(tried)} gates), a set catches "
        f"{_with(study, tried, other)} on the others.",
    ]
    if there:
        notes.append(
            f"All {len(there)} gates that `demo.toml` has too, asked as the study asks: "
            f"{_with(study, there, subtle)}; by {alone}: "
            f"{_with(study, there, subtle, TRAINED_AGAIN)}."
        )
    return "\n\n".join([_markdown(rows), *notes])


def _chosen(
    study: Study, pairs: Sequence[Pair], there: frozenset[str]
) -> tuple[list[str], int, int]:
    """Return the best of the smallest sets, how many there are, and how many lie in a file.

    The best: with the most gates of the file, then the one that needs the last release least.
    """
    caught = {pair: study.caught_by(pair) for pair in pairs}
    covers = smallest_covers(caught)

    worth = {
        cover: (len(cover & there), _with(study, cover, pairs, TRAINED_AGAIN).hits)
        for cover in covers
    }
    best = max(covers, key=lambda cover: worth[cover])
    return by_what_they_add(best, caught), len(covers), sum(cover <= there for cover in covers)


def _with(
    study: Study, names: Iterable[str], pairs: Sequence[Pair], ways: tuple[Way, ...] = WAYS
) -> Rate:
    chosen = frozenset(names)
    return rate(pairs, lambda pair: bool(study.caught_by(pair, ways) & chosen))


def in_file(candidates: Sequence[Candidate], path: Path) -> frozenset[str]:
    """Return the candidates that a threshold file asks too, whatever their settings and bounds."""
    gates = tomllib.loads(path.read_text(encoding="utf-8"))["gates"]
    asked = {
        (method, condition.get("metric", key), _kind(condition.get("other", "")))
        for method, table in gates.items()
        for key, condition in table.items()
    }
    return frozenset(
        one.name
        for one in candidates
        if (one.method, one.metric, _kind(str(one.settings.get("other", "")))) in asked
    )


def _kind(explainer: str) -> str:
    return explainer.partition("(")[0]


def committed(candidates: Sequence[Candidate], path: Path) -> dict[str, tuple[float, bool]]:
    """Return candidate -> its bound in a threshold file and whether it is a lower one."""
    gates = tomllib.loads(path.read_text(encoding="utf-8"))["gates"]
    found = {}
    for one in candidates:
        condition = gates.get(one.method, {}).get(one.metric, {})
        if one.of or one.within is not None or one.metric in _OTHER_PROTOCOL:
            continue
        if "above" in condition or "below" in condition:
            above = "above" in condition
            found[one.name] = (condition["above" if above else "below"], above)
    return found


def _fails_committed(study: Study, pair: Pair, fixed: Mapping[str, tuple[float, bool]]) -> bool:
    means = study.means(pair)
    return any(
        not (means[name] >= bound if above else means[name] <= bound)
        for name, (bound, above) in fixed.items()
    )


def _two(share: float) -> str:
    return f"{share:.2f}"


def _points(changes: Sequence[float]) -> str:
    return f"{100 * float(np.mean(changes)):+.1f}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *lines = rows
    listed = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in listed)
