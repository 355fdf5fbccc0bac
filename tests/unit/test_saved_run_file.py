"""The file of a saved run: what is written is what is read, and what cannot be is refused."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_xai.runs.folder import find_run, run_file
from pytest_xai.runs.saved_run import (
    FORMAT,
    SCHEMA_VERSION,
    DeclaredGate,
    Measured,
    RunFileError,
    SavedGate,
    SavedImage,
    SavedMeasurement,
    SavedRun,
    SavedSubject,
    as_text,
    from_bytes,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def run_of(
    values: dict[str, float | None],
    *,
    saved: datetime = datetime(2026, 11, 20, 12, 30, 1, 250_000, tzinfo=UTC),
    parameters: dict[str, Any] | None = None,
) -> SavedRun:
    measurement = SavedMeasurement(
        method="ig",
        explainer="integrated_gradients",
        parameters=parameters or {"steps": 50, "baseline": "black"},
        postprocess=["gaussian(sigma=3)"],
        metric="iou",
        protocol="iou@v1",
        settings={"binarize": "otsu"},
        values=values,
        undefined={name: "an empty mask" for name, value in values.items() if value is None},
    )
    subject = SavedSubject(
        model="net",
        data="pets",
        fingerprint="f",
        classes=3,
        device="cpu",
        transform="resize()",
        masks_from=None,
        accuracy=0.5,
        images=[SavedImage(name, 1, "ab" * 32) for name in values],
        gates=[SavedGate("ig", "iou", "iou", "iou@v1", True)],
        not_measured=[DeclaredGate("ig", "precision", "precision@v1")],
        measurements=[measurement],
    )
    return SavedRun(FORMAT, SCHEMA_VERSION, saved, 0, {"torch": "2.13"}, [subject])


def changed(text: str, **fields: Any) -> bytes:
    """Return the file with other fields of the run, of its subject or of its measurement."""
    content = json.loads(text)
    subject = content["subjects"][0]
    for place in (content, subject, subject["images"][0], subject["measurements"][0]):
        place |= {key: value for key, value in fields.items() if key in place}
    return json.dumps(content).encode()


@given(st.dictionaries(NAMES, FINITE | st.none(), min_size=1), st.dictionaries(NAMES, FINITE))
def test_what_is_written_is_what_is_read(values, parameters) -> None:
    run = run_of(values, parameters=parameters)
    assert from_bytes(as_text(run).encode(), shown="v1.json") == run


@given(st.dictionaries(NAMES, FINITE | st.none(), min_size=1))
def test_it_is_json_as_everybody_reads_it(values) -> None:
    found = json.loads(as_text(run_of(values)))
    assert found["subjects"][0]["measurements"][0]["values"] == values


def test_floats_are_as_short_as_they_can_be() -> None:
    assert '"a.png": 0.1,\n' in as_text(run_of({"a.png": 0.1, "b.png": 1 / 3}))


def test_each_value_image_and_gate_has_its_line() -> None:
    lines = [line.strip() for line in as_text(run_of({"a.png": 0.5, "b.png": 0.25})).splitlines()]
    assert '"a.png": 0.5,' in lines
    assert '"b.png": 0.25' in lines
    assert f'{{"image": "a.png", "target": 1, "digest": "{"ab" * 32}"}},' in lines
    assert '"parameters": {"baseline": "black", "steps": 50},' in lines


def test_only_the_time_is_otherwise_in_a_run_saved_later() -> None:
    one, two = (
        as_text(run_of({"a": 0.5}, saved=datetime(2026, 11, day, tzinfo=UTC))).splitlines()
        for day in (20, 21)
    )
    differing = [line for line, other in zip(one, two, strict=True) if line != other]
    assert differing == [' "saved": "2026-11-20T00:00:00.000+00:00",']


@pytest.mark.parametrize("parameter", [math.nan, math.inf])
def test_a_parameter_that_json_cannot_say_is_not_written(parameter: float) -> None:
    run = run_of({"a": 0.5}, parameters={"sigma": [parameter]})
    # msgspec writes null for them, which would be another parameter.
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_text(run)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"format": "coco"}, r"Invalid enum value 'coco' - at `\$.format`"),
        ({"schema_version": 99}, "schema_version 99 is of a newer pytest-xai"),
        ({"saved": "yesterday"}, r"Invalid RFC3339 encoded datetime - at `\$.saved`"),
        ({"saved": "2026-11-20T00:00:00"}, r"at `\$.saved`"),
        ({"seed": -1}, r"`int` >= 0 - at `\$.seed`"),
        ({"digest": "../../etc"}, r"at `\$.subjects\[0\].images\[0\].digest`"),
        ({"target": 1.5}, r"at `\$.subjects\[0\].images\[0\].target`"),
        ({"values": {"a": "0.5"}}, r"at `\$.subjects\[0\].measurements\[0\].values\[...\]`"),
        ({"values": {"b": 0.5}}, r"measurements\[0\].values: 'b' is not among the images"),
        ({"values": {"a": None}}, "'a' needs a value, or null and a reason in `undefined`"),
        ({"undefined": {"a": "why"}}, "'a' needs a value, or null and a reason in `undefined`"),
        ({"subjects": {}}, r"Expected `array`, got `object` - at `\$.subjects`"),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_key(fields: dict, says: str) -> None:
    content = changed(as_text(run_of({"a": 0.5})), **fields)
    with pytest.raises(RunFileError, match=says) as refused:
        from_bytes(content, shown="xai_runs/v1.json")
    assert str(refused.value).startswith("xai_runs/v1.json: ")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format": "pytest-xai run", "schema_version": 1}',
        b"[" * 100_000,
        b'{"format": "pytest-xai run", "schema_version": 1, "x": ' + b"[" * 100_000,
        as_text(run_of({"a": 0.5})).replace("0.5\n", "NaN\n").encode(),
        as_text(run_of({"a": 0.5})).replace("0.5\n", "1e999\n").encode(),
        as_text(run_of({"a": 0.5})).encode()[:-40],
    ],
)
def test_a_broken_file_is_refused(content: bytes) -> None:
    with pytest.raises(RunFileError, match=r"^v1\.json: .*expected a file that --xai-save wrote"):
        from_bytes(content, shown="v1.json")


def test_a_subject_that_is_there_twice_is_refused() -> None:
    content = json.loads(as_text(run_of({"a": 0.5})))
    content["subjects"] *= 2
    with pytest.raises(RunFileError, match=r"\('net', 'pets'\) stands there 2 times"):
        from_bytes(json.dumps(content).encode(), shown="v1.json")


def test_fields_of_later_versions_are_passed_over() -> None:
    content = json.loads(as_text(run_of({"a": 0.5})))
    content["new"] = content["subjects"][0]["new"] = 1
    assert from_bytes(json.dumps(content).encode(), shown="v1.json") == run_of({"a": 0.5})


def test_a_message_cannot_steer_the_terminal() -> None:
    content = changed(as_text(run_of({"a": 0.5})), values={"\x1b[31mred": 0.5})
    with pytest.raises(RunFileError) as refused:
        from_bytes(content, shown="v1.json")
    assert "\x1b" not in str(refused.value)


BEFORE = Measured(
    "ig", "integrated_gradients", {"steps": 20, "seed": 0}, [], "iou", "iou@v1", {"bins": 4}
)


@pytest.mark.parametrize(
    ("now", "differences"),
    [
        ({}, []),
        ({"method": "other"}, []),
        ({"parameters": {"steps": 20, "seed": 1}}, []),
        ({"settings": {"bins": 4, "seed": 1}}, []),
        ({"parameters": {"steps": 50, "seed": 0}}, ["steps 20 -> 50"]),
        ({"parameters": {"seed": 0}}, ["steps 20 -> none"]),
        ({"parameters": {"steps": 20, "baseline": None}}, ["baseline none -> None"]),
        ({"explainer": "gradcam"}, ["explainer integrated_gradients -> gradcam"]),
        ({"postprocess": ["otsu()"]}, ["post-processing none -> otsu()"]),
        ({"protocol": "iou@v2"}, ["protocol iou@v1 -> iou@v2"]),
        ({"settings": {"bins": 8}}, ["bins 4 -> 8"]),
    ],
)
def test_what_may_be_compared_is_the_same_but_for_names_and_seeds(
    now: dict[str, Any], differences: list[str]
) -> None:
    fields = {key: getattr(BEFORE, key) for key in BEFORE.__struct_fields__}
    assert BEFORE.differences(Measured(**{**fields, **now})) == differences


def saved_in(folder: Path, **days: int) -> None:
    for name, day in days.items():
        saved = datetime(2026, 11, day, tzinfo=UTC)
        (folder / f"{name}.json").write_text(as_text(run_of({"a": 0.5}, saved=saved)))


def test_last_is_the_run_with_the_latest_time_in_its_file(tmp_path: Path) -> None:
    saved_in(tmp_path, a=21, b=7, c=3)  # the first by name, and the first to be written
    (tmp_path / ".c.json.tmp.json").write_text("half of a file")
    assert find_run("last", tmp_path, shown="xai_runs").name == "a"


def test_a_run_is_found_by_its_name_and_by_its_path(tmp_path: Path, monkeypatch) -> None:
    saved_in(tmp_path, v1=3)
    monkeypatch.chdir(tmp_path)
    found = [find_run(text, tmp_path, shown="runs") for text in ("v1", "v1.json", "./v1.json")]
    assert [(one.name, one.path) for one in found] == [("v1", tmp_path / "v1.json")] * 3


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("v2", "^runs/v2.json: no such file; in runs/: known: older, v1$"),
        ("v11", r"in runs/: did you mean 'v1'\? Known: older, v1$"),
        ("elsewhere/v1.json", "^elsewhere/v1.json: no such file; in runs/: did you mean 'v1'"),
        ("../v1", "^../v1: no such file"),
        (".v1", "^the name of a run has letters"),
    ],
)
def test_a_run_that_is_not_there_names_those_that_are(
    wanted: str, says: str, tmp_path: Path
) -> None:
    saved_in(tmp_path, v1=3, older=2)
    with pytest.raises(RunFileError, match=says):
        find_run(wanted, tmp_path, shown="runs")


@pytest.mark.parametrize("wanted", ["last", "v1"])
def test_without_any_run_it_is_said_how_one_is_saved(wanted: str, tmp_path: Path) -> None:
    says = "no run is saved in runs/; --xai-save NAME saves one"
    with pytest.raises(RunFileError, match=re.escape(says)):
        find_run(wanted, tmp_path / "runs", shown="runs")


@given(NAMES)
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    try:
        file = run_file(Path("/project/runs"), name)
    except RunFileError:
        return
    assert file.parent == Path("/project/runs")
    assert file == Path(str(file)).resolve()
