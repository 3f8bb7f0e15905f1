#!/bin/sh
# Tells Prefect's server of the work pool and of the deployments in deploy/prefect.yaml; again changes nothing.
#
#     nightshift-deploy [TYPE]        of the pool: process (default) or kubernetes
#
# A pool that is there is left alone: somebody may have paused it or set its limit.
set -eu
: "${PREFECT_API_URL:?is not set: name the server, e.g. http://prefect:4200/api}"
: "${NIGHTSHIFT_HOME:?is not set: where runs work, the folder that nightshift-enter has made}"
prefect work-pool inspect nightshift >/dev/null 2>&1 || prefect --no-prompt work-pool create nightshift --type "${1:-process}"
prefect --no-prompt deploy --all --prefect-file deploy/prefect.yaml
