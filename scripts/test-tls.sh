#!/bin/sh
# test-tls.sh - what testssl.sh finds at a listener with TLS: nothing above "low" (make test-tls).
#
#   scripts/test-tls.sh [OPTIONS OF TESTSSL]   default: -p -s -f -U (protocols, standard ciphers,
#                                              forward secrecy, vulnerabilities); about 45 s
# BULKHEAD, BULKHEAD_PLUGINS: the binary, the folder of the plugins.
set -eu

BULKHEAD=${BULKHEAD:-build/bulkhead}
BULKHEAD_PLUGINS=${BULKHEAD_PLUGINS:-$PWD/build/plugins}
[ $# -gt 0 ] || set -- -p -s -f -U
for tool in testssl openssl; do
    command -v $tool >/dev/null || { echo "test-tls: no $tool here; 'make setup' with [test] installs it" >&2; exit 1; }
done

dir=$(mktemp -d)
pid=
trap 'if [ -n "$pid" ]; then kill "$pid"; wait "$pid" || :; fi 2>/dev/null; rm -rf "$dir"' EXIT
openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -out "$dir/cert.pem" -keyout "$dir/key.pem" 2>/dev/null

# A port that is free: the first of some that the server can have.
for port in $(shuf -i 20000-32000 -n 20); do
    cat > "$dir/config.yaml" <<EOF
version: 1
server: {workers: 2}
listeners:
  - {name: secure, address: "127.0.0.1:$port", tls: {cert: cert.pem, key: key.pem, hsts: 365d}}
modules: {path: ["$BULKHEAD_PLUGINS"]}
plugins: {hello: {module: respond, config: {body: "hello\n"}}}
routes: [{chain: [hello]}]
control: {socket: off}
crash: {dir: $dir/crashes}
EOF
    "$BULKHEAD" run -c "$dir/config.yaml" > "$dir/log" 2>&1 &
    pid=$!
    tries=100
    while [ $tries -gt 0 ] && kill -0 "$pid" 2>/dev/null && ! grep -q 'serving on' "$dir/log"; do
        sleep 0.1
        tries=$((tries - 1))
    done
    grep -q 'serving on' "$dir/log" && break
    kill "$pid" 2>/dev/null || :
    pid=
done
[ -n "$pid" ] || { cat "$dir/log" >&2; exit 1; }

status=0
testssl --quiet --color 0 --warnings off --ip 127.0.0.1 --jsonfile "$dir/result.json" "$@" \
    "https://localhost:$port" > "$dir/out" 2>&1 || status=$?
[ -s "$dir/result.json" ] || { cat "$dir/out" >&2; echo "test-tls: testssl gave up ($status)" >&2; exit 1; }

# Lines of `"id" : "...",` before those of `"severity" : "...",`.
awk -F'"' '$2 == "id" { id = $4 } $2 == "severity" { s = $4; n++ } $2 == "finding" && s ~ /MEDIUM|HIGH|CRITICAL|FATAL/ {
    print "test-tls: " s ": " id ": " $4; bad++ } END { printf "test-tls: %d findings, %d above low\n", n, bad; exit bad > 0 || n < 20 }' \
    "$dir/result.json"
