"""How SQLite files are opened, by whichever library: readers and a writer beside each other."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

SECONDS = 60  # that a writer waits for another one


def prepare(file: Path) -> None:
    """Put a SQLite file into WAL mode, where readers and a writer do not wait for each other."""
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file, timeout=SECONDS)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


@event.listens_for(Engine, "connect")
def sync_seldom(connection: Any, _: Any) -> None:
    """Let SQLite wait for the disk less often, in every engine of this process.

    A commit survives the death of every process; only a power cut may take back the last.
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=NORMAL")
