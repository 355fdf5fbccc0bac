"""Which gates of a run belong on one worker: those that need the same explanation."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path


def groups_of(node_ids: Sequence[str], path_of: Callable[[str], Path]) -> list[str | None]:
    """Return the group of each test; None for one that is no gate.

    A group has the gates of one model and image set whose explainers share an explanation, the
    concepts of one threshold file (their p-values are corrected together), or its neighbours.

    Args:
        node_ids: of the tests of the run.
        path_of: where a threshold file is, by the first part of a test's id.
    """
    representatives: dict[str, Mapping[str, str]] = {}
    groups: list[str | None] = []
    for node_id in node_ids:
        file, *names = node_id.split("::")
        if not file.endswith(".toml") or len(names) < 2:
            groups.append(None)
            continue
        if "concepts" in names[:-1]:
            groups.append("::".join([file, *names[: names.index("concepts") + 1]]))
            continue
        if file not in representatives:
            representatives[file] = sharing_explainers(_tables(path_of(file)))
        explainer = representatives[file].get(names[-2], names[-2])
        groups.append("::".join([file, *names[:-2], explainer]))
    return groups


def sharing_explainers(tables: Mapping[str, object]) -> dict[str, str]:
    """Map each explainer of a threshold file to the first one that it shares an explanation with.

    Explainers share one if they differ in their post-processing alone, or if a gate compares one
    with the other or both with a third; and the maps of a concept, if gates of both need them.

    >>> sharing_explainers(
    ...     {
    ...         "explainers": {
    ...             "ig": {"steps": 50, "kind": "integrated_gradients"},
    ...             "smooth": {
    ...                 "kind": "integrated_gradients",
    ...                 "steps": 50,
    ...                 "postprocess": ["gaussian(sigma=3)"],
    ...             },
    ...             "gradcam": {},
    ...             "saliency": {},
    ...         },
    ...         "gates": {"saliency": {"ssim": {"other": "gradcam", "above": 0.2}}},
    ...     }
    ... )
    {'ig': 'ig', 'smooth': 'ig', 'gradcam': 'gradcam', 'saliency': 'gradcam'}
    """
    explainers = {name: _table(one) for name, one in _table(tables.get("explainers")).items()}
    gates = {name: _table(one) for name, one in _table(tables.get("gates")).items()}
    leads = {name: name for name in explainers}

    def lead_of(name: str) -> str:
        while leads[name] != name:
            name = leads[name]
        return name

    first: dict[str, str] = {}
    for name, table in explainers.items():
        for need in (_raw(name, table), *_needs(gates.get(name, {}).values(), explainers)):
            one, other = lead_of(name), lead_of(first.setdefault(need, name))
            earlier, later = sorted((one, other), key=list(leads).index)
            leads[later] = earlier
    return {name: lead_of(name) for name in explainers}


def _needs(
    gates: Iterable[object], explainers: Mapping[str, Mapping[str, object]]
) -> Iterator[str]:
    """Yield what the gates of an explainer need beside its own explanations."""
    for gate in map(_table, gates):
        other = gate.get("other")
        if isinstance(other, str):
            yield _raw(other, explainers.get(other, {}))
        if "concept" in gate:
            yield f"concept {gate['concept']} {gate.get('layer', '')}"


def _raw(name: str, table: Mapping[str, object]) -> str:
    """Return what tells an explainer from others before its maps are post-processed."""
    parameters = {key: value for key, value in table.items() if key not in ("kind", "postprocess")}
    return f"{table.get('kind', name)} {sorted(parameters.items())}"


def _tables(path: Path) -> Mapping[str, object]:
    """Return what a threshold file says; nothing if it is wrong, which collecting it reports."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
