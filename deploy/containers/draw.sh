#!/bin/sh
# Writes deploy/.env for compose.yaml: the repository that nights work in, and secrets drawn for this machine.
#
#     deploy/containers/draw.sh https://git.example.org/team/nightshift.git
#
# It prints none of them, and leaves a file that is there alone.
set -eu
folder=$(dirname "$0")/..
repository=${1:?names no repository: give what git clones, e.g. https://git.example.org/team/nightshift.git}
if [ -e "$folder/.env" ]; then
    echo "draw: $folder/.env is there; move it away for new secrets (the databases keep the old ones)" >&2
    exit 1
fi
draw() { od -An -N20 -tx1 /dev/urandom | tr -d ' \n'; }  # 40 hex digits
umask 077
while IFS= read -r line; do
    case $line in
        NIGHTSHIFT_REPOSITORY=) echo "$line$repository" ;;
        PREFECT_AUTH=) echo "${line}nightshift:$(draw)" ;;
        [A-Z]*=) echo "$line$(draw)" ;;
        *) echo "$line" ;;
    esac
done <"$folder/compose.env.example" >"$folder/.env.part"
mv "$folder/.env.part" "$folder/.env"
echo "draw: wrote $folder/.env"
