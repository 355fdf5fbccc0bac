"""A store of bytes that several processes share, that stays small, and that may break."""

from __future__ import annotations

import pickle
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cache_cases import COUNT, SIZE, Run, found
from safetensors.numpy import save

from xai_core.cache import DiskCache, store
from xai_core.cache.entries import VALUES, Form, ImageExplanation, explanations_of, probabilities_of
from xai_core.errors import CacheError, ParameterError


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DiskCache]:
    opened = DiskCache(tmp_path / "cache")
    yield opened
    opened.close()


def database_of(cache: DiskCache) -> Path:
    (path,) = cache.folder.glob("*.sqlite3")
    return path


def altered(cache: DiskCache, statement: str) -> None:
    with sqlite3.connect(database_of(cache)) as database:
        database.execute(statement)
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET payload = substr(payload, 1, length(payload) - 1)",
        "UPDATE entries SET payload = CAST(x'00' || payload AS BLOB)",
        "UPDATE entries SET payload = (SELECT payload FROM entries AS other WHERE other.rowid = 2)",
        "UPDATE entries SET digest = x'00'",
    ],
    ids=["truncated", "longer", "another's", "digest"],
)
def test_a_corrupt_entry_is_discarded_with_a_line_of_log_and_computed_anew(
    statement: str, cache: DiskCache, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run.plain()
    expected = run.measured(cache).measurements[0].values
    altered(cache, statement)
    at = run.measured(cache)
    assert at.measurements[0].values.tobytes() == expected.tobytes()
    assert found(at, "measure")[0] <= 1  # the entry that was copied over the others
    assert "entries discarded: their bytes are not those that were written" in caplog.text
    caplog.clear()
    assert found(run.measured(cache), "measure") == (COUNT, COUNT)
    assert not caplog.records


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["text", "pickle"])
def test_an_entry_of_another_form_is_discarded_and_never_unpickled(
    form: str, cache: DiskCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Run.plain().measured(cache)
    with sqlite3.connect(database_of(cache)) as database:
        keys = [key for (key,) in database.execute("SELECT key FROM entries")]
    database.close()
    marker = tmp_path / "unpickled"
    payload = b"nothing" if form == "text" else pickle.dumps(Planted(marker))
    cache.keep(dict.fromkeys(keys, payload))
    at = Run.plain().measured(cache)
    assert found(at, "measure") == found(at, "explain") == (0, COUNT)
    assert f"cache {cache.folder}: {COUNT} entries discarded" in caplog.text
    assert found(Run.plain().measured(cache), "measure") == (COUNT, COUNT)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Planted(marker)))
    assert marker.exists()  # it would have


def overwritten(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be taken for the header of one " * 99)


def halved(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def scrambled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [overwritten, halved, scrambled], ids=lambda d: d.__name__)
def test_a_corrupt_database_is_begun_anew_with_a_line_of_log(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DiskCache(tmp_path)
    expected = Run.plain().measured(cache).measurements[0].values
    cache.close()
    damage(database_of(cache))
    again = DiskCache(tmp_path)
    at = Run.plain().measured(again)
    assert at.measurements[0].values.tobytes() == expected.tobytes()
    assert "begun anew" in caplog.text
    caplog.clear()
    assert found(Run.plain().measured(again), "measure") == (COUNT, COUNT)
    assert not caplog.records


def test_a_database_that_another_process_began_anew_stays(tmp_path: Path) -> None:
    one, other = DiskCache(tmp_path), DiskCache(tmp_path)
    fault = sqlite3.DatabaseError("file is not a database")
    one._begin_anew(fault)
    one.keep({b"key": b"kept"})
    other._begin_anew(fault)
    assert dict(other.find([b"key"])) == {b"key": b"kept"}


def test_a_cache_that_fails_in_use_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "_PATIENCE", 0.01)
    cache = DiskCache(tmp_path)
    expected = Run.plain().measured(cache).measurements[0].values
    other = sqlite3.connect(database_of(cache), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    changed = Run.plain()
    changed.data.prefix = "renamed"
    assert changed.measured(cache).measurements[0].values.tobytes() == expected.tobytes()
    other.close()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"cache {tmp_path}: not used any further in this run: database is locked"]


@pytest.mark.parametrize("at", ["", "explanations-v1.sqlite3"], ids=["folder", "database"])
def test_a_place_that_cannot_be_written_is_one_clear_error(at: str, tmp_path: Path) -> None:
    if at:
        (tmp_path / at).mkdir()
        folder = tmp_path
    else:
        folder = tmp_path / "file"
        folder.write_text("")
    with pytest.raises(CacheError, match=r"the cache .* cannot be used: .*; give a folder"):
        DiskCache(folder)


def test_a_limit_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"expected 1048576 \(1 MiB\) or more, got 1000"):
        DiskCache(tmp_path, limit_bytes=1000)


MIB = 2**20


def payload(number: int, size: int) -> bytes:
    return np.random.default_rng(number).bytes(size)


@pytest.mark.parametrize("size", [100, 40_000])
def test_the_database_stays_within_its_limit(size: int, tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit_bytes=MIB)
    count = 4 * MIB // (size + 256)
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        cache.keep({number.to_bytes(8): payload(number, size) for number in numbers})
        assert database_of(cache).stat().st_size <= MIB
    there = {int.from_bytes(key) for key, _ in cache.find(n.to_bytes(8) for n in range(count))}
    assert there == set(range(count - len(there), count))  # the last ones
    assert sum(size for _ in there) > 0.25 * MIB


def test_what_was_used_last_stays(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit_bytes=MIB)
    keys = [number.to_bytes(8) for number in range(40)]
    for number, key in enumerate(keys):
        cache.keep({key: payload(number, 40_000)})
        assert dict(cache.find(keys[:1]))  # asked for again and again
    assert not dict(cache.find(keys[1:2]))


def test_what_would_take_half_of_the_cache_is_not_stored(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit_bytes=MIB)
    cache.keep({b"small": b"1", b"large": bytes(MIB // 2), b"other": b"2"})
    assert dict(cache.find([b"small", b"large", b"other"])) == {b"small": b"1", b"other": b"2"}


def test_a_smaller_limit_than_before_shrinks_the_file(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit_bytes=8 * MIB)
    cache.keep({number.to_bytes(8): payload(number, 40_000) for number in range(120)})
    cache.close()
    assert database_of(cache).stat().st_size > 4 * MIB
    smaller = DiskCache(tmp_path, limit_bytes=MIB)
    assert database_of(smaller).stat().st_size <= MIB
    assert len(dict(smaller.find(number.to_bytes(8) for number in range(120)))) > 10


WRITER = """
import sys
from xai_core.cache import DiskCache

folder, start = sys.argv[1], int(sys.argv[2])
cache = DiskCache(folder)
print("opened", flush=True)
sys.stdin.readline()
for number in range(start, start + 200):
    cache.keep({number.to_bytes(8): bytes([number % 256]) * 1000, b"shared": bytes(500)})
    assert dict(cache.find([number.to_bytes(8)]))
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(start)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for start in (0, 200, 400)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "opened\n"
    errors = [process.communicate("go\n")[1] for process in processes]
    assert errors == ["", "", ""]  # no traceback, and no line of log
    entries = dict(DiskCache(tmp_path).find(number.to_bytes(8) for number in range(600)))
    assert entries == {n.to_bytes(8): bytes([n % 256]) * 1000 for n in range(600)}


MAP, PAINTED = np.ones(SIZE, np.float32), np.ones((3, *SIZE), np.float32)


@pytest.mark.parametrize(
    ("form", "payload"),
    [
        (explanations_of(SIZE), save({"heatmap": MAP.T.copy()})),
        (explanations_of(SIZE), save({"attributions": PAINTED})),
        (explanations_of(SIZE), save({"heatmap": MAP, "other": MAP})),
        (probabilities_of(3), save({"probabilities": np.ones(4, np.float32)})),
        (probabilities_of(3), save({"heatmap": np.ones(3, np.float32)})),
        (VALUES, struct.pack("<d", np.nan)),
        (VALUES, struct.pack("<d", 0.5) + b"?no value"),
        (VALUES, struct.pack("<d", np.nan) + b"no mark"),
        (VALUES, struct.pack("<f", 0.5)),
    ],
)
def test_bytes_of_another_result_are_refused(form: Form[object], payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"not|reason"):
        form.decode(payload)


def test_a_type_of_numbers_without_a_form_is_not_written() -> None:
    explanation = ImageExplanation(MAP.astype(np.longdouble), None, None)  # type: ignore[arg-type]
    assert explanations_of(SIZE).encode(explanation) is None
