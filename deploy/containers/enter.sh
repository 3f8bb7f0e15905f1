#!/bin/sh
# Brings the repository into the volume, makes the nights' home in it, and becomes the command that it is given.
#
#     nightshift-enter [--no-home] COMMAND...
#
#   NIGHTSHIFT_REPOSITORY   where git clones from
#   NIGHTSHIFT_BRANCH       the branch that nights follow; unset: the repository's own
#   NIGHTSHIFT_WORK         the volume; the clone is its folder checkout
#   NIGHTSHIFT_DVC_CACHE    a folder for DVC's cache, which several machines may share; unset: in the clone
#   NIGHTSHIFT_DVC_REMOTE   where outputs are pushed to; unset: as the repository's .dvc/config says
#
# A clone appears whole or not at all. One that is there is brought forward, never reset: what it has of its own stays, and a
# repository that does not answer costs a line, not the night.
set -eu
home=yes
if [ "${1:-}" = --no-home ]; then home=no; shift; fi
work=${NIGHTSHIFT_WORK:?is not set: name the folder that is kept (a volume)}
checkout=$work/checkout
say() { echo "nightshift-enter: $*" >&2; }

exec 9>"$work/enter.lock"
flock 9  # containers that share the volume wait for each other here
if [ ! -e "$checkout/.git" ]; then
    : "${NIGHTSHIFT_REPOSITORY:?is not set: name what git clones, e.g. https://git.example.org/team/nightshift.git}"
    rm -rf "$checkout.part"
    git clone --quiet ${NIGHTSHIFT_BRANCH:+--branch "$NIGHTSHIFT_BRANCH"} "$NIGHTSHIFT_REPOSITORY" "$checkout.part"
    mv "$checkout.part" "$checkout"
    say "cloned"
elif ! git -C "$checkout" pull --quiet --ff-only; then
    say "not brought forward (see above); going on with commit $(git -C "$checkout" rev-parse --short HEAD)"
fi
cd "$checkout"
if [ -n "${NIGHTSHIFT_DVC_CACHE:-}" ]; then python -m dvc cache dir --local "$NIGHTSHIFT_DVC_CACHE"; fi
if [ -n "${NIGHTSHIFT_DVC_REMOTE:-}" ]; then
    python -m dvc remote modify --local "$(python -m dvc config core.remote)" url "$NIGHTSHIFT_DVC_REMOTE"
fi
if [ "$home" = yes ]; then
    NIGHTSHIFT_HOME=$(python -c 'import sys; from pathlib import Path; from tasks import home
from tasks.errors import NightshiftError
try: print(home.make(Path.cwd()).root)
except NightshiftError as error: sys.exit(str(error))')
    export NIGHTSHIFT_HOME
fi
exec 9>&-
exec "$@"
