"""tasks/sources.py and tasks/rag/sql.py on real databases: SQLite always, PostgreSQL where its server is installed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import minigraph
import pytest
import yaml

from tasks import cli
from tasks.bootstrap import tracked_hash
from tasks.errors import DataError, ParamsError
from tasks.params import Params, load
from tasks.rag.loaders import load as load_document
from tasks.rag.statement import check, is_ordered
from tasks.sources import fetch, left_over
from tests.waiting import until

ROOT = Path(__file__).parents[1]
TICKETS = {"name": "tickets", "url": "sqlite:///helpdesk.db", "title": "subject", "text": "body",
           "query": "select subject, body, team, price from tickets"}  # fmt: skip
SNAPSHOT = Path("data/documents/sql/tickets.jsonl")


def params(root: Path, *sources: dict, **limits) -> Params:
    """The committed params.yaml with these sources, also written to the folder."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["sources"] |= {"sql": list(sources), **limits}
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
    return load(root / "params.yaml")


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder with data/ and a database of two tickets."""
    (tmp_path / "data/documents").mkdir(parents=True)
    write(tmp_path, "create table tickets (id integer primary key, subject text, body text, team text, price numeric)",
          "insert into tickets values (1, '台灯坏了', '换一盏。', null, 4.5), (2, 'Lamp', 'It flickers.\n# Forged', 'Light', 12)")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(root: Path, *statements: str) -> None:
    """Change the database."""
    with sqlite3.connect(root / "helpdesk.db") as database:
        for statement in statements:
            database.execute(statement)
    database.close()


def one(root: Path, source: dict, **limits) -> str:
    """What is said of a single source."""
    (found,) = fetch(root, params(root, source, **limits))
    return str(found)


def test_rows_become_a_document(root):
    """Sorted where the query has no order; NULL is nothing; the loader makes sections that no value can forge."""
    assert one(root, TICKETS) == "tickets: 2 rows, new"
    assert (root / SNAPSHOT).read_text() == (
        '{"title": "Lamp", "text": "It flickers.\\n# Forged", "team": "Light", "price": 12}\n'
        '{"title": "台灯坏了", "text": "换一盏。", "price": 4.5}\n'
    )
    assert load_document(root / SNAPSHOT, "x", 2**20).pages[0].text == (
        "# tickets\n\n## Lamp\n\nIt flickers.\nForged\n\n- team: Light\n- price: 12\n\n## 台灯坏了\n\n换一盏。\n\n- price: 4.5"
    )


def test_equal_content_is_equal_bytes_and_no_write(root):
    """The same rows stored in another order change nothing, not even the file's time; a changed row does."""
    one(root, TICKETS)
    before = (root / SNAPSHOT).stat()
    write(root, "update tickets set id = id + 10 where id = 1")
    assert one(root, TICKETS) == "tickets: 2 rows, unchanged"
    assert ((root / SNAPSHOT).stat().st_mtime_ns, (root / SNAPSHOT).stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    write(root, "update tickets set team = 'Lighting' where id = 2")
    assert one(root, TICKETS) == "tickets: 2 rows, new"


def test_the_order_of_the_query_is_kept(root):
    """Only an ORDER BY of the whole result counts."""
    one(root, {**TICKETS, "query": f"{TICKETS['query']} order by id"})
    assert [json.loads(line)["title"] for line in (root / SNAPSHOT).read_text().splitlines()] == ["台灯坏了", "Lamp"]
    assert is_ordered("select 1 ORDER\nBY 1") and not is_ordered("select * from (select 1 order by (1)) -- order by")


def test_the_query_is_taken_as_it_is_written(root):
    """A colon and a per cent sign are no parameters; a column's other name may be taken already."""
    query = "select subject as name, team as title, body, ':x %s 5%' as mark from tickets where body like '%flick%'"
    assert one(root, {**TICKETS, "title": "name", "query": query}) == "tickets: 1 row, new"
    assert json.loads((root / SNAPSHOT).read_text()) == {
        "title": "Lamp", "title (2)": "Light", "text": "It flickers.\n# Forged", "mark": ":x %s 5%"}  # fmt: skip


@pytest.mark.parametrize("query", [
    "select 1", " (select 1) union select 2;", "with a as (select 1) select * from a", "select ';', 'it''s' -- ; delete",
    'select "update", \'insert\' from t /* delete */', "SELECT replace(a, '/', '-') from t", "select inserted from t",
])  # fmt: skip
def test_what_reads_is_let_through(query):
    """Words in strings, names and comments do not matter."""
    check(query, "x")


@pytest.mark.parametrize("query, reason", [
    ("delete from t", "begins with delete"), ("", "begins with no word"), ("pragma query_only = off", "begins with pragma"),
    ("select 1; delete from t", "more than one statement"), ("select 1;;", "more than one statement"),
    ("with a as (delete from t returning *) select * from a", "holds DELETE"), ("select * into b from t", "holds INTO"),
    ("select * from t for update", "holds UPDATE"), ("/* x */ insert into t values (1)", "begins with insert"),
    ("select 'a\\'; delete from t; --'", "(more than one|not closed)"),
    ("select '\\'' ; drop table t --'", "(more than one|not closed)"), ("select 'open", "not closed"),
    ("select 1 /*! ; delete from t */", "only some databases"), ("select '\\' from t", "not closed"),
    ("explain select 1", "begins with explain"),
])  # fmt: skip
def test_what_may_write_is_refused(query, reason):
    """Before any database sees it; both ways to read a backslash are tried."""
    with pytest.raises(DataError, match=reason):
        check(query, "x")


def test_the_database_itself_is_locked(root):
    """What would get past the first lock is refused by SQLite; a file that is not there is not made."""
    from sqlalchemy import make_url

    from tasks.rag import sql

    with pytest.raises(Exception, match=r"readonly|read-only"):
        sql.read(make_url("sqlite:///helpdesk.db"), "delete from tickets", 10, 10)
    assert one(root, TICKETS) == "tickets: 2 rows, new"
    assert "unable to open database file" in one(root, {**TICKETS, "url": "sqlite:///gone.db"})
    assert not (root / "gone.db").exists()


ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"


@pytest.mark.parametrize("change, limits, said", [
    ({"query": "delete from tickets"}, {}, "sources.sql.tickets.query: begins with delete"),
    ({"query": "select * from gone"}, {}, "no such table: gone"),
    ({"query": "select subject, body from tickets", "title": "topic"}, {}, "no column topic; take one of subject, body"),
    ({"query": "select subject, subject, body from tickets"}, {}, "gives two columns called subject"),
    ({"query": f"{TICKETS['query']} where false"}, {}, "gives no rows"),
    ({"query": "select subject, body, x'00ff' as picture from tickets"}, {}, "column picture: holds no text (bytes)"),
    ({}, {"max_rows": 1}, "gives more than 1 rows"),
    ({"query": ENDLESS, "title": None, "text": None}, {"max_seconds": 3}, "gave no answer within 3 s"),
    ({"query": "select hex(zeroblob(15000000)) as body, 'x' as subject"}, {}, "gives 28.6 MB, more than a document may have"),
    ({"url": "postgres!"}, {}, "is no SQLAlchemy URL"),
    ({"url": "nodb://x"}, {}, "is no SQLAlchemy URL of a known kind"),
    ({"url": "postgresql+psycopg2://x@localhost/y"}, {}, "needs the driver psycopg2"),
    ({"url": "sqlite:///folder"}, {}, "unable to open database file"),
])  # fmt: skip
def test_whatever_fails_leaves_the_snapshot(root, change, limits, said):
    """An error says what is wrong and where; the former bytes stay, and nothing else is beside them."""
    (root / SNAPSHOT).parent.mkdir()
    (root / SNAPSHOT).write_text("the former rows")
    found = one(root, {**TICKETS, **change}, **limits)
    assert said in found and found.startswith("tickets: NOT FETCHED, its former snapshot is left as it was: ")
    assert (root / SNAPSHOT).read_text() == "the former rows"
    assert [path.name for path in SNAPSHOT.parent.iterdir()] == ["tickets.jsonl"]


def test_the_other_sources_are_taken(root):
    """One that fails comes first; what cannot be written is said too."""
    other = {**TICKETS, "name": "other"}
    assert [str(each)[:20] for each in fetch(root, params(root, {**TICKETS, "url": "sqlite:///gone.db"}, other))] == [
        "tickets: NOT FETCHED", "other: 2 rows, new"]  # fmt: skip
    shutil.rmtree(SNAPSHOT.parent)
    SNAPSHOT.parent.write_text("a file in the place of the folder")
    assert "NOT FETCHED" in one(root, other) and SNAPSHOT.parent.is_file()


@pytest.mark.parametrize("url", [
    "postgresql+asyncpg://clerk:{}@127.0.0.1:9/helpdesk",  # nothing listens there
    "postgresql+asyncpg://clerk@127.0.0.1:9/helpdesk?password={}",
    "sqlite:///gone-{}.db?token={}",
    "nodb://clerk:{}@127.0.0.1/helpdesk", "postgresql+psycopg2://clerk:{}@127.0.0.1/helpdesk", "clerk:{}",
    "postgresql+asyncpg://clerk:{}@127.0.0.1:notaport/helpdesk",
])  # fmt: skip
def test_a_password_is_never_shown(root, monkeypatch, capsys, url):
    """From the environment, at a host out of reach, in a URL that is none: not in any word of the error."""
    monkeypatch.setenv("HELPDESK_URL", url.replace("{}", "s3cr3t%2Fw0rd"))
    source = {**{key: value for key, value in TICKETS.items() if key != "url"}, "url_env": "HELPDESK_URL"}
    said = one(root, source)
    assert cli.main(["fetch"]) == 1
    captured = capsys.readouterr()
    assert "NOT FETCHED" in said
    for text in (said, captured.out, captured.err):
        assert "s3cr3t" not in text and "w0rd" not in text


def test_a_password_in_params_is_refused(root):
    """params.yaml is committed. Neither this nor a wrong section repeats it."""
    said = one(root, {**TICKETS, "url": "postgresql+asyncpg://clerk:s3cr3t@127.0.0.1:9/x"})
    assert "holds a password" in said and "url_env" in said and "s3cr3t" not in said
    with pytest.raises(ParamsError, match="needs either url or url_env") as refused:
        params(root, {**TICKETS, "url": "postgresql://clerk:s3cr3t@h/x", "url_env": "HELPDESK_URL"})
    assert "s3cr3t" not in str(refused.value)
    assert "the environment has no HELPDESK_GONE" in one(root, {**TICKETS, "url": None, "url_env": "HELPDESK_GONE"})


def test_names_are_file_names_and_differ(root):
    """No path, no capital, no name twice; a misspelt key is named with the right one."""
    for name in ("../x", "a/b", "", ".x", "Tickets", "a b"):
        with pytest.raises(ParamsError, match=r"sources\.sql\.0\.name"):
            params(root, {**TICKETS, "name": name})
    with pytest.raises(ParamsError, match="two sources are called tickets"):
        params(root, TICKETS, TICKETS)
    with pytest.raises(ParamsError, match=r"sources\.sql\.0\.quary: no such parameter \(did you mean 'query'\?\)"):
        params(root, {**TICKETS, "quary": "x"})


def test_fetch_says_what_it_did_and_tracks_it(tmp_path, monkeypatch, capsys):
    """`nightshift fetch`, twice, then without the source: rows, what is new, what is left over, and data.dvc follows."""
    root = minigraph.make(tmp_path)
    for name, value in minigraph.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)
    write(root, "create table tickets (subject text, body text, team text, price numeric)",
          "insert into tickets values ('a', 'b', 'c', 1)")  # fmt: skip
    params(root, TICKETS)
    before = tracked_hash(root / "data.dvc")
    assert cli.main(["fetch"]) == 0
    after = tracked_hash(root / "data.dvc")
    assert capsys.readouterr().out == f"tickets: 1 row, new\ntracked: data.dvc names {after}\n" and after != before
    assert cli.main(["fetch"]) == 0
    assert capsys.readouterr().out == "tickets: 1 row, unchanged\n" and tracked_hash(root / "data.dvc") == after
    params(root)
    assert left_over(root, []) == [str(SNAPSHOT)]
    assert cli.main(["fetch"]) == 0
    assert "no source of this name in params.yaml" in capsys.readouterr().out and (root / SNAPSHOT).is_file()


@pytest.fixture(scope="module")
def postgres():
    """A PostgreSQL server of our own on loopback; its URL holds a password."""
    if not shutil.which("initdb") or not shutil.which("postgres"):
        pytest.skip("tier service: no PostgreSQL server (initdb, postgres) on PATH")
    import asyncpg

    folder = Path(tempfile.mkdtemp(prefix="nightshift-postgres-"))  # pytest's own folders are for its user's eyes alone
    user = "nobody" if os.getuid() == 0 else None  # the server refuses to run as root
    shutil.chown(folder, user) if user else None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "password").write_text("s3cr3t")
    shutil.chown(folder / "password", user) if user else None
    subprocess.run(["initdb", "-D", folder / "db", "-U", "clerk", "--pwfile", folder / "password", "-A", "scram-sha-256",
                    "--no-sync", "-E", "UTF8", "--locale=C"], check=True, user=user, cwd=folder, capture_output=True)  # fmt: skip
    server = subprocess.Popen(["postgres", "-D", folder / "db", "-p", str(port), "-h", "127.0.0.1", "-k", folder], user=user,
                              cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    url = f"postgresql+asyncpg://clerk:s3cr3t@127.0.0.1:{port}/postgres"
    try:
        def begun() -> bool:
            assert server.poll() is None
            with contextlib.suppress(OSError, asyncpg.CannotConnectNowError):  # not there yet, or just starting
                execute(url, "create table tickets (subject text, body text, price numeric(6,2), at timestamptz, tags text[])")
                return True
            return False

        until(begun)
        execute(url, "insert into tickets values ('台灯', '换。', 4.50, '2026-11-24 10:00+00', '{a,b}')")
        execute(url, "insert into tickets values ('Lamp')")
        yield url
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


def execute(url: str, statement: str) -> None:
    """Run a statement there, and commit it."""
    import asyncio

    import asyncpg

    async def run() -> None:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


@pytest.mark.service
def test_postgresql_is_read_and_not_written(root, postgres, monkeypatch):
    """Its types as text, its transaction read-only, its own time limit, and its refusals without the password."""
    from sqlalchemy import make_url

    from tasks.rag import sql

    monkeypatch.setenv("HELPDESK_URL", postgres)
    source = {"name": "tickets", "url_env": "HELPDESK_URL", "title": "subject", "query": "select * from tickets"}
    assert one(root, source) == "tickets: 2 rows, new"
    assert one(root, source) == "tickets: 2 rows, unchanged"
    assert [json.loads(line) for line in (root / SNAPSHOT).read_text().splitlines()] == [
        {"title": "Lamp"},
        {"title": "台灯", "body": "换。", "price": "4.50", "at": "2026-11-24 10:00:00+00:00", "tags": ["a", "b"]},
    ]
    url = make_url(postgres)
    for writes in ("delete from tickets", "select nextval('s')", "create table other (x int)"):
        if "nextval" in writes:
            execute(postgres, "create sequence s")
        with pytest.raises(Exception, match="read-only transaction"):
            sql.read(url, writes, 10, 10)
    with pytest.raises(Exception, match="statement timeout"):
        sql.read(url, "select pg_sleep(30)", 10, 0.5)
    many = {**source, "query": "select i as subject from generate_series(1, 1000000) i"}
    assert "gives more than 1000 rows" in one(root, many, max_rows=1000)
    monkeypatch.setenv("HELPDESK_URL", postgres.replace("s3cr3t", "wr0ng"))
    assert "password authentication failed" in (said := one(root, source)) and "wr0ng" not in said
