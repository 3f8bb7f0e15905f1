#!/bin/sh
# The worker of one machine: runs are processes of this container. Started by nightshift-enter.
#
#   NIGHTSHIFT_LABEL_STUDIO   host:port of a Label Studio in the same compose network; unset: none
#
# Nightshift sends its token over plain HTTP to its own machine alone. A compose network is that machine, but its names are not
# loopback: so port 8080 here leads there, and labelling.url is http://127.0.0.1:8080. Elsewhere write https:// and leave it out.
set -eu
nightshift-deploy process
if [ -n "${NIGHTSHIFT_LABEL_STUDIO:-}" ]; then
    while :; do nightshift-forward 8080 "$NIGHTSHIFT_LABEL_STUDIO" || sleep 5; done &
fi
exec python -m deploy.worker nightshift --with-healthcheck
