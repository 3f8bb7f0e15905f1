#!/bin/sh
# Tells Prefect's server of the work pool, of the deployments in deploy/prefect.yaml and of who hears what nights did (section
# notify of params.yaml); again changes nothing.
#
#     nightshift-deploy [TYPE]        of the pool: process (default) or kubernetes
#
# A pool that is there is left alone: somebody may have paused it or set its limit. Without the block of notify.block nobody hears of
# nights, and they run.
set -eu
: "${PREFECT_API_URL:?is not set: name the server, e.g. http://prefect:4200/api}"
: "${NIGHTSHIFT_HOME:?is not set: where runs work, the folder that nightshift-enter has made}"
prefect work-pool inspect nightshift >/dev/null 2>&1 || prefect --no-prompt work-pool create nightshift --type "${1:-process}"
prefect --no-prompt deploy --all --prefect-file deploy/prefect.yaml
python -m deploy.notifications || echo "nightshift-deploy: nobody will hear what nights did, see above; nights run all the same" >&2
