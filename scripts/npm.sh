#!/bin/sh
# npm.sh - sees to it that the npm packages that a folder's package.json names are there.
#
#   scripts/npm.sh DIR
#
# Only tests need any. Nothing is fetched when DIR/node_modules is as package-lock.json wants it.
# Exit status: 0 all there, 1 they are not, and cannot be had.
set -u

dir=${1:?usage: $0 DIR}
lock=$dir/package-lock.json
stamp=$dir/node_modules/.installed

cmp -s "$lock" "$stamp" && exit 0
command -v npm >/dev/null 2>&1 || {
    echo "npm.sh: there is no npm here (apt-get install npm)" >&2
    exit 1
}
# Nothing that comes along is run.
(cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >&2 || {
    echo "npm.sh: npm could not install what $lock names (no network?)" >&2
    exit 1
}
cp "$lock" "$stamp"
