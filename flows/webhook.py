"""Wakes a collection when people have judged: `python -m flows.webhook` listens to Label Studio, in the foreground.

It registers itself in the labelling projects and, after every `labelling.webhook.wake_after` judgements, emits the Prefect
event `nightshift.judgements`; `python -m flows.collect --serve` collects when it comes (and every hour without it). Both
need the Prefect server that PREFECT_API_URL names.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tasks import environment

environment.apply()

from prefect.events import emit_event  # noqa: E402  (libraries read their environment when they are imported)

from flows import server  # noqa: E402
from tasks import params  # noqa: E402
from tasks.errors import NightshiftError, ParamsError  # noqa: E402
from tasks.labelling import label_studio, secrets, webhook  # noqa: E402

EVENT = "nightshift.judgements"
RESOURCE = "nightshift.labelling"


def ring(judgements: int) -> None:
    """Tell Prefect that there are new judgements."""
    emit_event(event=EVENT, resource={"prefect.resource.id": RESOURCE}, payload={"judgements": judgements})


def run(root: Path, public_url: str | None) -> None:
    """Check, listen, register, until it is told to end. `public_url`: where Label Studio finds it, if not at its address."""
    cfg = params.load(root / "params.yaml").labelling
    if cfg.url is None:
        raise ParamsError("labelling.url", "is null: there is no server to listen to",
                          "run make label-studio and set it to http://127.0.0.1:8080, or write your own server's address")
    if not public_url and cfg.webhook.host in ("0.0.0.0", "::"):
        raise ParamsError("labelling.webhook.host", f"{cfg.webhook.host} is no address that Label Studio could call",
                          "say where it finds the receiver: --public-url https://…/label-studio")
    server.need_lasting("an event needs a server that keeps it")
    token = secrets.value(root, secrets.TOKEN)
    secret = webhook.checked(secrets.ensure(root, [secrets.WEBHOOK])[secrets.WEBHOOK])

    def register(host: str, port: int) -> None:
        where = public_url or webhook.address(host, port)
        with label_studio.connect(cfg.url, token, cfg) as studio:
            for project in studio.ensure_projects().values():
                studio.ensure_webhook(project, where, secret)
        print(f"{where}: every {cfg.webhook.wake_after} judgements in {cfg.project} wake a collection", flush=True)

    with server.api(root):  # one that does not answer would lose every event without a word
        try:
            webhook.serve(cfg.webhook, secret, ring, register)
        finally:
            server.drain()


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0 when told to end, 1 on failure."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.webhook", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--public-url", metavar="URL", help="where Label Studio finds it, with a proxy before it")
    given = parser.parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager ends it as Ctrl-C does: nothing is lost
    try:
        run(Path.cwd(), given.public_url)
    except NightshiftError as error:
        print(f"webhook: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
