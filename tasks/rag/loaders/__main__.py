"""The process behind reader.py: a path a line in, a document or the reason against it a line out."""

from __future__ import annotations

import json
import math
import os
import resource
import sys
from pathlib import Path
from typing import Any

from tasks.rag.loaders import Unreadable, first_line, load


def answer(ask: dict[str, Any]) -> dict[str, Any]:
    """The document's pages and notes, or `why` there are none. Parsers fail in every way on broken input."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used) + ask["max_seconds"], hard))
    try:
        document = load(Path(ask["path"]), ask["source"], ask["max_bytes"])
    except Unreadable as reason:
        return {"why": str(reason)}
    except MemoryError:
        return {"why": f"takes more than {resource.getrlimit(resource.RLIMIT_AS)[0] >> 20} MB of memory to read"}
    except RecursionError:
        return {"why": "is nested too deeply"}
    except Exception as error:
        return {"why": f"is broken ({first_line(error)})"}
    return {"pages": [(page.text, page.number) for page in document.pages], "notes": document.notes}


def main() -> None:
    """Answer until there is nothing more to read. Whatever a parser prints goes nowhere."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    memory, (_, hard) = int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory if hard == resource.RLIM_INFINITY else min(memory, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        reply = json.dumps(answer(json.loads(line)))
        print(reply, file=replies, flush=True)


if __name__ == "__main__":
    main()
