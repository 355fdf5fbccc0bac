"""What besides its values is otherwise in a run than in an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from pytest_xai.runs.pairing import image_changes
from xai_core.statistics import false_alarm_rate

if TYPE_CHECKING:
    from pytest_xai.report.rows import ModelFacts
    from pytest_xai.runs.folder import EarlierRun
    from pytest_xai.runs.gathered import Gathered, Subject
    from pytest_xai.runs.rows import ComparedRow, DeclaredRow
    from pytest_xai.runs.saved_run import SavedSubject

Weight = Literal["plain", "loud", "missing"]


@dataclass(frozen=True)
class Remark:
    """One line of the summary.

    ``loud`` is what may hide a loss; ``missing`` is what the earlier run has and this one lacks,
    which ``--xai-strict`` does not pass.
    """

    text: str
    weight: Weight = "plain"


def remarks(
    earlier: EarlierRun, gathered: Gathered, *, seed: int, versions: Mapping[str, str]
) -> list[Remark]:
    """Return what a run says beside an earlier one, the number of gates compared first.

    Args:
        earlier: the run that gates were held against.
        gathered: what the tests of this run reported.
        seed: of this run.
        versions: of what its values rest on.
    """
    found = [_headline(earlier, gathered.compared)]
    several = len(gathered.models) > 1
    for model, data in sorted({*gathered.models, *gathered.declared}):
        prefix = f"{model} on {data}: " if several else ""
        for one in _of_subject(earlier, gathered, (model, data)):
            found.append(Remark(f"{prefix}{one.text}", one.weight))
    found += _not_held(earlier, gathered)
    changed = _changes({"seed": earlier.run.seed}, {"seed": seed})
    changed += _changes(earlier.run.versions, versions)
    if changed:
        found.append(Remark(f"otherwise than then: {', '.join(changed)}"))
    return found


def _headline(earlier: EarlierRun, rows: Iterable[ComparedRow]) -> Remark:
    """Return how many gates were compared, and how often such a run cries wolf."""
    rows = list(rows)
    then = f"compared with {earlier.name} (saved {earlier.run.day})"
    if not any(row["status"] == "compared" for row in rows):
        hint = "" if rows else "; a gate asks for it with a margin, such as not_worse_by = 0.02"
        return Remark(f"no gate is {then}{hint}", "missing")
    families: dict[Subject, tuple[int, float]] = {}
    for row in rows:
        subject, (size, level) = (row["model"], row["data"]), (row["family"], row["level"])
        known = families.get(subject, (0, 0.0))
        families[subject] = max(size, known[0]), max(level, known[1])
    sizes = [size for size, _ in families.values() if size]
    rate = sum(false_alarm_rate(size, level) for size, level in families.values() if size)
    gates = " + ".join(str(size) for size in sizes)
    plural = "gate" if sizes == [1] else "gates"
    return Remark(
        f"{then}: {gates} {plural}, Holm; at most {100 * min(1.0, rate):.3g} % of the runs of an "
        "unchanged model raise any false alarm"
    )


def _of_subject(earlier: EarlierRun, gathered: Gathered, subject: Subject) -> Iterator[Remark]:
    then, facts = earlier.run.subject(*subject), gathered.models.get(subject)
    rows = [row for row in gathered.compared if (row["model"], row["data"]) == subject]
    if then is None:
        why = next((row["why"] for row in rows if row["status"] == "new"), "")
        yield Remark(f"not compared: {why or f'{earlier.name} has nothing of it'}", "loud")
        return
    if facts is not None:
        yield _of_weights(then, facts)
        yield from _of_facts(then, facts)
        yield from _moved(rows)
    images = gathered.images_of(subject)
    if images:
        changes = image_changes(images, then.images)
        if complaints := changes.complaints():
            listed = "; ".join(complaints)
            yield Remark(f"images: {changes.same} are in both runs; {listed}", "loud")
    for why, group in groupby(sorted(rows, key=lambda row: row["why"]), key=lambda row: row["why"]):
        held = list(group)
        yield from _not_compared(why, held, earlier)
    yield from (
        Remark(f"{_called(row)}: left out: {row['left_out']}", "loud")
        for row in rows
        if row["left_out"]
    )
    declared = gathered.declared.get(subject)
    if declared is not None:
        yield from _gone(earlier, then, declared)


def _of_weights(then: SavedSubject, facts: ModelFacts) -> Remark:
    if facts["fingerprint"] == then.fingerprint:
        return Remark("weights and normalisation: the same")
    if then.weights is None or then.weights != facts["weights"]:
        return Remark("weights or normalisation: not the same, as is to be expected of a release")
    if then.normalisation == facts["normalisation"]:
        return Remark("weights: the same, in other layers", "loud")
    return Remark("weights: the same")


def _moved(rows: Iterable[ComparedRow]) -> Iterator[Remark]:
    """Yield how many gates have the values of then, of those that cannot but have them."""
    asked = [(row, row["moved"], row["moved_of"]) for row in rows]
    known = [(row, moved, of) for row, moved, of in asked if moved is not None and of is not None]
    if not known:
        return
    moved_gates = [_called(row) for row, moved, of in known if 2 * moved > of]
    if not moved_gates:
        yield Remark(f"values: those of then, in {len(known)} of {len(known)} gates")
        return
    text = f"values: moved with weights, images and settings of then: {', '.join(moved_gates)}"
    yield Remark(text, "loud")


def _of_facts(then: SavedSubject, facts: ModelFacts) -> Iterator[Remark]:
    changed = _changes({"device": then.device}, {"device": facts["device"]})
    changed += _changes({"classes": then.classes}, {"classes": facts["classes"]})
    if changed:
        yield Remark(f"otherwise than then: {', '.join(changed)}")
    for key, before, after in (
        ("preprocessing", then.transform, facts["transform"]),
        ("normalisation", then.normalisation or facts["normalisation"], facts["normalisation"]),
        ("masks predicted by", then.masks_from, facts["masks_from"]),
    ):
        if before != after:
            yield Remark(f"another {key}: {before} -> {after}", "loud")


def _not_compared(why: str, rows: list[ComparedRow], earlier: EarlierRun) -> Iterator[Remark]:
    new = [_called(row) for row in rows if row["status"] == "new"]
    if new:
        yield Remark(f"new since {earlier.name}: {', '.join(new)}")
    other = [_called(row) for row in rows if row["status"] == "incomparable"]
    if other:
        text = f"NOT compared, {earlier.name} measured something else: {', '.join(other)}: {why}"
        yield Remark(text, "loud")


def _gone(earlier: EarlierRun, then: SavedSubject, declared: DeclaredRow) -> Iterator[Remark]:
    """Yield what no gate of the threshold file demands any longer, by its name or protocol."""
    names = {(method, gate) for method, gate, _ in declared["gates"]}
    protocols = {(method, protocol) for method, _, protocol in declared["gates"]}
    gone = [
        f"{one.gate}[{one.method}]"
        for one in then.gates
        if (one.method, one.gate) not in names and (one.method, one.protocol) not in protocols
    ]
    if gone:
        text = f"held in {earlier.name}, and by no gate now: {', '.join(gone)}"
        yield Remark(text, "missing")


def _not_held(earlier: EarlierRun, gathered: Gathered) -> Iterator[Remark]:
    """Yield the models and image sets of the earlier run that this one does not hold."""
    sets = {row["model"]: row["sets"] for row in gathered.declared.values()}
    for one in earlier.run.subjects:
        subject = one.model, one.data
        if subject in gathered.models or subject in gathered.declared or not one.gates:
            continue
        text = f"held in {earlier.name}, and not in this run: {one.model} on {one.data}"
        dropped = one.model in sets and one.data not in sets[one.model]
        yield Remark(text, "missing" if dropped else "plain")


def _called(row: ComparedRow) -> str:
    return f"{row['gate']}[{row['method']}]"


def _changes(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return [
        f"{key} {then.get(key, 'unknown')} -> {now.get(key, 'unknown')}"
        for key in dict.fromkeys([*then, *now])
        if then.get(key, "unknown") != now.get(key, "unknown")
    ]
