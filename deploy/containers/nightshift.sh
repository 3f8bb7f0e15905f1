#!/bin/sh
# The command line in the clone: docker compose exec worker nightshift status
set -eu
cd "${NIGHTSHIFT_WORK:?is not set}/checkout"
exec python -m tasks.cli "$@"
