"""The rows of one SQL query as JSON Lines, by SQLAlchemy, read-only: `python -m tasks.rag.sql`, a request on stdin.

A process of its own, which its parent (tasks/sources.py) can end: no driver's time limit covers every way to hang. What keeps
it from writing, besides a statement that must be a SELECT (statement.py):

    sqlite            the file is opened with mode=ro, PRAGMA query_only
    postgresql        SET TRANSACTION READ ONLY
    mysql, mariadb    START TRANSACTION READ ONLY
    all               rollback at the end, never commit; for the others that is all, so give them a user who may only SELECT

A password is never printed: errors are freed of it before they leave the process.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from tasks.errors import DataError, NightshiftError, ParamsError, ServiceError
from tasks.rag.loaders.records import unique
from tasks.rag.statement import check, is_ordered

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

# dialect → statements that begin its transaction; {ms}: the time limit, so that the server ends the query too
READ_ONLY = {
    "sqlite": ("PRAGMA query_only = ON",),
    "postgresql": ("SET TRANSACTION READ ONLY", "SET LOCAL statement_timeout = {ms}"),
    "mysql": ("START TRANSACTION READ ONLY",),
    "mariadb": ("START TRANSACTION READ ONLY",),
}
SECRET = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)  # options of a URL that may hold one
LONGEST = 300  # characters of a database's error that are shown
Row = dict[str, Any]


def take(request: Mapping[str, Any]) -> list[str]:
    """The lines of the snapshot. `request` is an item of sources.sql with `max_rows` and `max_seconds`."""
    thing = f"sources.sql.{request['name']}"
    check(request["query"], f"{thing}.query")
    url = address(request, thing)
    try:
        columns, rows = read(url, request["query"], request["max_rows"], request["max_seconds"])
    except ModuleNotFoundError as error:
        raise ServiceError(thing, f"needs the driver {error.name}", "install it into .venv") from None
    except Exception as error:  # a driver may fail in any way
        raise ServiceError(thing, said(error, url), "mend it, or look whether the database can be reached") from None
    if len(rows) > request["max_rows"]:
        raise DataError(thing, f"gives more than {request['max_rows']} rows", "narrow the query, or raise sources.max_rows")
    names = renamed(columns, request.get("title"), request.get("text"), thing)
    lines = [json.dumps(record(names, row, thing), ensure_ascii=False) for row in rows]
    return lines if is_ordered(request["query"]) else sorted(lines)


def address(request: Mapping[str, Any], thing: str) -> URL:
    """The database's URL, from params.yaml or from the environment variable that is named there."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    name = request.get("url_env")
    text = os.environ.get(name, "") if name else request["url"]
    if not text:
        raise ParamsError(f"{thing}.url_env", f"the environment has no {name}", "set it where the night runs")
    try:
        url = make_url(text)
        url.get_dialect()
    except (ArgumentError, ImportError, ValueError):  # their words may repeat the password
        raise ParamsError(f"{thing}.{'url_env' if name else 'url'}", "is no SQLAlchemy URL of a known kind of database",
                          "dialect+driver://user@host:port/database") from None
    if not name and secrets(url):
        raise ParamsError(f"{thing}.url", "holds a password, and params.yaml is committed",
                          "put the URL into an environment variable and name it in url_env")
    return url


def secrets(url: URL) -> list[str]:
    """What of a URL must not be shown."""
    options = [text for name, value in url.query.items() if SECRET.search(name)
               for text in (value if isinstance(value, tuple) else (value,))]
    return [text for text in (url.password, *options) if text]


def said(error: Exception, url: URL) -> str:
    """Kind and first line of an error, without password or URL."""
    text = str(getattr(error, "orig", None) or error)
    for secret in (url.render_as_string(hide_password=False), *secrets(url)):
        for form in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret)):
            text = text.replace(form, "***")
    lines = text.split("\n")
    return f"{type(error).__name__}: {lines[0][:LONGEST]}".rstrip(": ")


def read(url: URL, query: str, max_rows: int, max_seconds: float) -> tuple[list[str], list[Sequence[Any]]]:
    """Column names and rows, one row more than allowed where there are more. Drivers with and without asyncio."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    def rows(connection: Connection) -> tuple[list[str], list[Sequence[Any]]]:
        try:
            for statement in READ_ONLY.get(connection.dialect.name, ()):
                connection.exec_driver_sql(statement.format(ms=math.ceil(max_seconds * 1000)))
            # as it is written: no parameters, so that neither :name nor % means anything
            options = {"no_parameters": True, "stream_results": True, "max_row_buffer": 1000}
            result = connection.exec_driver_sql(query, execution_options=options)
            return list(result.keys()), [tuple(row) for row in result.fetchmany(max_rows + 1)]
        finally:
            connection.rollback()

    async def apart() -> tuple[list[str], list[Sequence[Any]]]:
        from sqlalchemy.ext.asyncio import create_async_engine

        async with create_async_engine(read_only(url), poolclass=NullPool).connect() as connection:
            return await connection.run_sync(rows)

    if url.get_dialect().is_async:
        import asyncio

        return asyncio.run(apart())
    with create_engine(read_only(url), poolclass=NullPool).connect() as connection:
        return rows(connection)


def read_only(url: URL) -> URL:
    """A file of SQLite opened for reading: one that is not there is not made."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return url
    path = url.database if url.database.startswith("file:") else f"file:{quote(url.database)}"
    return url.set(database=path).update_query_dict({"mode": "ro", "uri": "true"})


def renamed(columns: Sequence[str], title: str | None, text: str | None, thing: str) -> list[str]:
    """Names of the columns in the snapshot: the chosen ones are called what the loader looks for."""
    for name in columns:
        if columns.count(name) > 1:
            raise DataError(thing, f"gives two columns called {name}", "name them apart: AS")
    for option, name in (("title", title), ("text", text)):
        if name is not None and name not in columns:
            raise DataError(f"{thing}.{option}", f"the query gives no column {name}", f"take one of {', '.join(columns)}")
    chosen = {title: "title", text: "text"} if title != text else {title: "title"}
    chosen.pop(None, None)
    others = [name for name in columns if name not in chosen]
    apart = dict(zip(others, unique([*chosen.values(), *others])[len(chosen) :], strict=True))
    return [chosen.get(name) or apart[name] for name in columns]


def record(names: Sequence[str], row: Sequence[Any], thing: str) -> Row:
    """One row; nothing for NULL."""
    return {name: plain(value, f"{thing}, column {name}") for name, value in zip(names, row, strict=True) if value is not None}


def plain(value: Any, thing: str) -> Any:
    """A value as JSON can hold it, the same for the same value in every run."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, list | tuple):
        return [plain(each, thing) for each in value]
    if isinstance(value, dict):
        return {str(key): plain(each, thing) for key, each in value.items()}
    kind = type(value)
    if isinstance(value, bytes | memoryview) or (kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__):
        raise DataError(thing, f"holds no text ({kind.__name__})", "leave it out of the query, or cast it to text")
    return str(value)


def main() -> None:
    """A request from stdin; its lines, or the error, as JSON on stdout. Whatever a driver prints goes nowhere."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        reply: dict[str, Any] = {"lines": take(json.load(sys.stdin))}
    except NightshiftError as error:
        reply = {"kind": type(error).__name__, "error": [error.thing, error.what, error.remedy]}
    print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
