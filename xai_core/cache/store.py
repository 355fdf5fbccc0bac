"""A bounded store of bytes in a folder, which several processes may use at once.

It is one SQLite database in WAL mode, through the standard library: no dependency to keep up with,
readers that never wait for a writer, writes that are there whole or not at all, and a single file
whose size can be bounded. A file for each of some ten thousand numbers would be slow; `diskcache`,
which also stands on SQLite, had its last release in 2023 and unpickles whatever its database says
is a pickle. Nothing here is ever unpickled: an entry is bytes with their SHA-256, so whatever is
truncated or altered is discarded, and a database that SQLite cannot read is begun anew.

WAL needs memory that all processes share, so the folder belongs on a disk of this machine, not on a
network drive. Whoever can write there can change what is found: it is to be trusted as far as they
are.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

from xai_core.cache.code import Code
from xai_core.errors import CacheError, ParameterError

T = TypeVar("T")

DEFAULT_LIMIT = 2 * 2**30
"""Bytes that a cache may take unless told otherwise."""

_LEAST_LIMIT = 2**20
_FILE = "explanations-v1.sqlite3"
_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    key BLOB PRIMARY KEY,
    used INTEGER NOT NULL,
    size INTEGER NOT NULL,
    digest BLOB NOT NULL,
    payload BLOB NOT NULL
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS by_use ON entries (used, size)"
_AT_ONCE = 64  # entries of one query; those of explanations are up to a megabyte each
_WRITTEN_AT_ONCE = 8 * 2**20
_OVERHEAD = 256  # bytes of an entry beside its payload: two B-trees, key, digest
_PATIENCE = 30.0  # seconds to wait for another process's write
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_Row: TypeAlias = tuple[bytes, bytes, bytes]  # key, payload, digest of both
_LOG = logging.getLogger("xai_core")


class DiskCache:
    """Bytes by key in a folder, safe for several processes; the least recently used go first.

    What cannot be read or written while it is in use never stops a run: it is logged, and the
    results are computed.

    Args:
        folder: made where it is missing; on a disk of this machine.
        limit_bytes: of the database; the file of what is being written comes on top, up to about
            12 MiB.

    Attributes:
        folder: where it is.
        limit_bytes: the largest size.
        code: what tells the code behind results, as it was when the cache was opened.

    Raises:
        CacheError: the folder cannot be made or written to.
        ParameterError: ``limit_bytes`` is below 1 MiB.
    """

    def __init__(self, folder: str | Path, *, limit_bytes: int = DEFAULT_LIMIT) -> None:
        if limit_bytes < _LEAST_LIMIT:
            msg = (
                f"limit_bytes of a cache: expected {_LEAST_LIMIT} (1 MiB) or more, "
                f"got {limit_bytes}"
            )
            raise ParameterError(msg)
        self.folder = Path(folder)
        self.limit_bytes = limit_bytes
        self.code = Code(opened=time.time())
        self._path = self.folder / _FILE
        self._inode = 0
        self._connection: sqlite3.Connection | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._open()
            except sqlite3.DatabaseError as error:
                if not _is_unreadable(error):
                    raise
                self._begin_anew(error)
        except (OSError, sqlite3.Error) as error:
            msg = (
                f"the cache {self.folder} cannot be used: {error}; give a folder that can be "
                "written to, or none"
            )
            raise CacheError(msg) from None

    def __repr__(self) -> str:
        return f"DiskCache({os.fspath(self.folder)!r}, limit_bytes={self.limit_bytes})"

    def find(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and payload of those entries that are there whole, in any order."""
        remaining = iter(dict.fromkeys(keys))
        while wanted := list(islice(remaining, _AT_ONCE)):
            rows: list[_Row] = self._attempt(partial(_read, keys=wanted), [])
            whole = [
                (key, payload) for key, payload, digest in rows if digest == _digest(key, payload)
            ]
            sound = {key for key, _ in whole}
            broken = [key for key, _, _ in rows if key not in sound]
            if broken:
                self.discard(broken, "their bytes are not those that were written")
            if sound:
                self._attempt(partial(_touch, keys=sorted(sound)), None)
            yield from whole

    def keep(self, entries: Mapping[bytes, bytes]) -> None:
        """Store payloads under their keys; the least recently used make room for them.

        One that would take more than half of the cache is not stored.
        """
        most = min(_WRITTEN_AT_ONCE, self.limit_bytes // 4)
        chunk: dict[bytes, bytes] = {}
        room = 0
        for key, payload in entries.items():
            own = len(payload) + _OVERHEAD
            if own > self.limit_bytes // 2:
                continue
            if chunk and room + own > most:
                self._write(chunk, room)
                chunk, room = {}, 0
            chunk[key] = payload
            room += own
        if chunk:
            self._write(chunk, room)

    def discard(self, keys: Sequence[bytes], why: str) -> None:
        """Forget entries that are of no use, with a line of log that says why."""
        _LOG.warning("cache %s: %d entries discarded: %s", self.folder, len(keys), why)
        rows = [(key,) for key in keys]
        self._attempt(
            lambda database: database.executemany("DELETE FROM entries WHERE key = ?", rows), None
        )

    def close(self) -> None:
        """Release the database; nothing is found or kept any more."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, chunk: Mapping[bytes, bytes], room: int) -> None:
        now = time.time_ns()
        rows = [
            (key, now, len(payload) + _OVERHEAD, _digest(key, payload), payload)
            for key, payload in chunk.items()
        ]

        def write(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            _make_room(database, self.limit_bytes, room)
            database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", rows)

        self._attempt(write, None)

    def _attempt(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Return what ``action`` gives, or ``otherwise`` if the cache fails.

        A transaction that it begins is committed, or rolled back where it fails.
        """
        if self._connection is None:
            return otherwise
        try:
            with self._connection:
                return action(self._connection)
        except sqlite3.DatabaseError as error:
            if _is_unreadable(error):
                try:
                    self._begin_anew(error)
                except (OSError, sqlite3.Error) as failure:
                    self._give_up(failure)
            else:
                self._give_up(error)
        return otherwise

    def _give_up(self, error: Exception) -> None:
        _LOG.warning("cache %s: not used any further in this run: %s", self.folder, error)
        self.close()

    def _open(self) -> None:
        self._inode = self._present_inode()
        database = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)
        try:
            _prepare(database)
            _shrink(database, self.limit_bytes)
        except BaseException:
            database.close()
            raise
        self._inode = self._present_inode()
        self._connection = database

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        """Put an empty database in the place of one that cannot be read."""
        _LOG.warning("cache %s: cannot be read (%s), begun anew", self.folder, error)
        self.close()
        if self._present_inode() == self._inode:  # else another process has begun anew already
            for ending in ("", "-wal", "-shm"):
                Path(f"{self._path}{ending}").unlink(missing_ok=True)
        self._open()

    def _present_inode(self) -> int:
        return self._path.stat().st_ino if self._path.exists() else 0


def _prepare(database: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            # Before the first table, and before WAL, which writes the first page.
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(f"PRAGMA journal_size_limit = {_WRITTEN_AT_ONCE}")
            database.execute(_TABLE)
            database.execute(_INDEX)
        except sqlite3.OperationalError as error:
            # SQLite does not wait for another process that changes the journal's mode.
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _read(database: sqlite3.Connection, keys: Sequence[bytes]) -> list[_Row]:
    places = ", ".join("?" * len(keys))
    query = f"SELECT key, payload, digest FROM entries WHERE key IN ({places})"
    return database.execute(query, keys).fetchall()


def _touch(database: sqlite3.Connection, keys: Sequence[bytes]) -> None:
    places = ", ".join("?" * len(keys))
    update = f"UPDATE entries SET used = ? WHERE key IN ({places})"
    database.execute(update, (time.time_ns(), *keys))


def _make_room(database: sqlite3.Connection, limit: int, room: int) -> None:
    """Delete the least recently used entries until ``room`` bytes more stay within ``limit``."""
    if _bytes_used(database) + room <= limit:
        return
    # A little more than needed, that not every write has to.
    goal = max(0, limit - limit // 10 - room)
    while (excess := _bytes_used(database) - goal) > 0:
        oldest, freed = [], 0
        for rowid, size in database.execute("SELECT rowid, size FROM entries ORDER BY used, rowid"):
            oldest.append((rowid,))
            freed += size
            if freed >= excess:
                break
        if not oldest:
            return
        database.executemany("DELETE FROM entries WHERE rowid = ?", oldest)


def _shrink(database: sqlite3.Connection, limit: int) -> None:
    """Bring a database that was allowed more in an earlier run down to ``limit``."""
    pages, size = (_pragma(database, name) for name in ("page_count", "page_size"))
    if pages * size <= limit:
        return
    database.execute("BEGIN IMMEDIATE")
    with database:
        _make_room(database, limit, 0)
    # As a script: `execute` stops after the first page, because the pragma gives no columns.
    database.executescript("PRAGMA incremental_vacuum")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _bytes_used(database: sqlite3.Connection) -> int:
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (_pragma(database, name) for name in names)
    return (pages - free) * size


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _digest(key: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(key + payload).digest()


def _is_unreadable(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNREADABLE
