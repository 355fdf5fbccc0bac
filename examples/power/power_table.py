"""The study's tables in Markdown: what is caught, by which gate, and which gates are enough."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from candidate_gates import Candidate
from detection import ANOTHER_SEED, WAYS, Pair, Rate, Study, Way, rate, smallest_cover

import xai_core.demo

_COMMITTED = Path(xai_core.demo.__file__).with_name("demo.toml")
_OTHER_PROTOCOL = ("insertion", "faithfulness_gap")
"""Metrics that the study measures with fewer steps than the committed file."""
_BLIND = 0.95
_NAMED = 3

COMPARISONS: tuple[Way, ...] = WAYS[1:]


def report(demo: Study, photographs: Study) -> str:
    """Return everything as Markdown; a study without records has no part."""
    parts = []
    for title, study in (("The demo", demo), ("Photographs", photographs)):
        if study.seeds:
            parts += [f"## {title}", *_of_study(study)]
    return "\n\n".join(parts) + "\n"


def _of_study(study: Study) -> list[str]:
    harmful, harmless = study.pairs(study.harmful), study.pairs(alarms(study))
    subtle = [pair for pair in harmful if study.is_subtle(pair)]
    chosen = smallest_cover({pair: study.caught_by(pair) for pair in subtle})
    lines = [
        f"{len(study.seeds)} {study.unit}, {len(study.candidates)} gates.\n",
        f"- Caught of all defects: {_caught(study, harmful, WAYS)}.",
        f"- Caught of those that cost less than two points of accuracy: "
        f"{_caught(study, subtle, WAYS)}; by thresholds alone "
        f"{_caught(study, subtle, WAYS[:1])}, by comparison with the last release alone "
        f"{_caught(study, subtle, COMPARISONS)}.",
        f"- Harmless changes that fail: {_caught(study, harmless, WAYS)}.",
    ]
    rates = {name: _caught(study, study.pairs([name]), WAYS) for name in study.harmful}
    blind = [f"{name} {found}" for name, found in rates.items() if found.share < _BLIND]
    lines.append(f"- Blind spots, caught less than {_BLIND}: {', '.join(blind) or 'none'}.")
    return [
        "\n".join(lines),
        "### By defect",
        _by_condition(study),
        "### By gate",
        _by_gate(study, subtle, harmless),
        "### The smallest set",
        _cover(study, chosen, subtle, harmless),
    ]


def alarms(study: Study) -> list[str]:
    """Return the conditions under which no gate ought to fail."""
    return [*([ANOTHER_SEED] if "other training" in _ways(study) else []), *study.harmless]


def _ways(study: Study) -> set[Way]:
    return {way for pair in study.pairs([ANOTHER_SEED]) for way in study.ways(pair)}


def _caught(study: Study, pairs: Iterable[Pair], ways: tuple[Way, ...]) -> Rate:
    return rate(pairs, lambda pair: bool(study.caught_by(pair, ways)))


def _by_condition(study: Study) -> str:
    elsewhere = any(study.accuracy_change(p, "free watermark") for p in study.pairs(study.harmful))
    fixed = committed(study.candidates, _COMMITTED) if elsewhere else {}
    head = ["change", "accuracy", *(["without leak"] if elsewhere else [])]
    head += ["moves", "caught", "thresholds", "last release", *(["demo.toml"] if fixed else [])]
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
        row += [_two(_caught(study, pairs, ways).share) for ways in (WAYS[:1], COMPARISONS)]
        if fixed:
            row.append(_two(rate(pairs, lambda pair: _fails_committed(study, pair, fixed)).share))
        rows.append([*row, _most_often(study, pairs)])
    return _markdown(rows)


def _most_often(study: Study, pairs: Sequence[Pair]) -> str:
    counts: dict[str, int] = {}
    for pair in pairs:
        for gate in study.caught_by(pair):
            counts[gate] = counts.get(gate, 0) + 1
    first = sorted(counts, key=lambda gate: (-counts[gate], gate))[:_NAMED]
    return ", ".join(f"{gate} {_two(counts[gate] / len(pairs))}" for gate in first) or "-"


def _by_gate(study: Study, subtle: Sequence[Pair], harmless: Sequence[Pair]) -> str:
    margins = [way for way in COMPARISONS if way in _ways(study) | {"same training"}]
    head = ["gate", "threshold", *(f"margin, {way}" for way in margins)]
    rows = [[*head, "caught by threshold", "by last release", "false alarms"]]
    for gate in study.candidates:
        bounds = [study.threshold(gate, seed) for seed in study.seeds]
        sign = "≥" if gate.higher else "≤"
        rows.append(
            [
                f"`{gate.name}`",
                f"{sign} {float(np.median(bounds)):.3f}",
                *(_median_margin(study, gate, way) for way in margins),
                *(str(_rate_of(study, gate, ways, subtle)) for ways in (WAYS[:1], COMPARISONS)),
                str(_rate_of(study, gate, WAYS, harmless)),
            ]
        )
    return _markdown(rows)


def _median_margin(study: Study, gate: Candidate, way: Way) -> str:
    margins = [study.margin(gate, frozenset({seed}), way) for seed in study.seeds]
    return f"{float(np.median(margins)):.3f}"


def _rate_of(study: Study, gate: Candidate, ways: Collection[Way], pairs: Sequence[Pair]) -> Rate:
    return rate(pairs, lambda pair: any(study.fails(pair, gate, way) for way in ways))


def _cover(
    study: Study,
    chosen: Sequence[tuple[str, int]],
    subtle: Sequence[Pair],
    harmless: Sequence[Pair],
) -> str:
    """Return the set, what it grows to, and what a set chosen on half of the networks does."""
    rows = [["gate", "caught with those above", "false alarms"]]
    names: set[str] = set()
    for gate, _ in chosen:
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
    tried = {gate for gate, _ in smallest_cover({pair: study.caught_by(pair) for pair in half})}
    note = (
        f"Chosen on every other of the {study.unit} ({len(tried)} gates), a set catches "
        f"{_with(study, tried, other)} on the others."
    )
    return f"{_markdown(rows)}\n\n{note}"


def _with(study: Study, names: Iterable[str], pairs: Sequence[Pair]) -> Rate:
    chosen = frozenset(names)
    return rate(pairs, lambda pair: bool(study.caught_by(pair) & chosen))


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
