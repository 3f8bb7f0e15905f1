#!/usr/bin/env python3
"""Health of a container: exit code 0 when URL answers 200, else 1 with the reason.

    nightshift-answers URL [NAME]

NAME is an environment variable with a token of Label Studio: it says that it is healthy before its tables are there, and
counts as ready when it knows the token. Standard library alone, so that each image can run it.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

SECONDS = 5


def why_not(url: str, token: str | None = None) -> str | None:
    """None when `url` answers 200, else why it does not; no token is in the words."""
    asked = urllib.request.Request(url, headers={"Authorization": f"Token {token}"} if token else {})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=SECONDS) as answer:
            return None if answer.status == 200 else f"{url} answers {answer.status}"
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}"
    except OSError as error:
        return f"{url} does not answer: {error}"


if __name__ == "__main__":
    sys.exit(why_not(sys.argv[1], os.environ[sys.argv[2]] if len(sys.argv) > 2 else None))
