"""What is asked of a spool's file as a whole, and of its log; each takes a connection."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the bytes of the pages in use, not all full."""
    ((used,),) = connection.execute(
        "SELECT (page_count - freelist_count) * page_size"
        " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    )
    return int(used)


def give_back(connection: sqlite3.Connection, pages: int) -> bool:
    """Give free pages back to the system; return whether there were any."""
    if not connection.execute("PRAGMA freelist_count").fetchone()[0]:
        return False
    # Not `execute`: it would stop after the first page, which SQLite returns as a row
    # without columns.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")
    return True


def copy_log(connection: sqlite3.Connection, how: str = "PASSIVE") -> bool:
    """Copy the log into the file; return whether that was possible."""
    return not connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()[0]


def complaints(connection: sqlite3.Connection) -> str:
    """Return what SQLite finds wrong with the file's structure; empty: nothing."""
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return "" if found == b"ok" else "its structure is damaged"
