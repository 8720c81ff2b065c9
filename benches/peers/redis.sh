#!/usr/bin/env bash
# Some streams on one Redis, read to their end by Tidemill and by programs of the `redis` crate in turns: JSON events, of
# which Tidemill makes count and sum per user and minute. Prints a table of medians; a contender whose totals differ from the
# others' ends it with an error.
#
#   benches/peers/redis.sh                            # 2 million events, 8 streams, 5 runs each, 2 threads
#   EVENTS=500000 RUNS=1 benches/peers/redis.sh bare tidemill  # only those whose name begins so
#
# The server is one of scripts/services, of its own and gone afterwards, or that of REDIS_URL. The bare reader looks at every
# byte, the parsing one also reads payloads as JSON and adds up amounts; neither groups. Seconds: of the whole job for
# Tidemill, with writing its results to a file; of all requests for the others. CPU seconds are of the whole process; Redis
# takes its own beside them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

EVENTS="${EVENTS:-2000000}" STREAM_COUNT="${STREAM_COUNT:-8}" RUNS="${RUNS:-5}" THREADS="${THREADS:-2}"
USERS="${USERS:-1000}"
only=("$@")
work="$(mktemp -d)"
peers=benches/peers
release="${CARGO_TARGET_DIR:-target}/release"
fastest="bare-reader"
keys=()
cleanup() {
  if [[ -e "$work/services" ]]; then
    scripts/services down --folder "$work/services"
  elif ((${#keys[@]})); then
    redis-cli -u "$REDIS_URL" unlink "${keys[@]}" > "$work/unlinked"
  fi
  rm -rf "$work"
}
trap cleanup EXIT
. "$peers/contest.sh"

# --- contenders ------------------------------------------------------------------------------------------------------

bare-reader() { timed "$release/examples/bare_reader" "$REDIS_URL" "$(IFS=,; echo "${keys[*]}")" "$1"; }

parsing-reader() { timed "$release/examples/bare_reader" "$REDIS_URL" "$(IFS=,; echo "${keys[*]}")" "$1" parse; }

tidemill() { run_job "$peers/windowed-totals-redis.sql" "$@"; }

tidemill-checkpoints() { tidemill --checkpoint-dir "file://$work/checkpoints" --checkpoint-interval 1s --fresh; }

contenders=(
  "bare-reader 1" "bare-reader $THREADS" "parsing-reader 1" "parsing-reader $THREADS" "tidemill" "tidemill-checkpoints"
)

# --- preparation -----------------------------------------------------------------------------------------------------

build() {
  say "building"
  # devdeps: with it, the features of all dependencies are those of every other build here.
  cargo build --quiet --release -p tidemill -p devdeps --bin tidemill
  cargo build --quiet --release -p tidemill-redis -p devdeps --example bare_reader
}

prepare() {
  local name="peers-$$" number length
  if [[ -z "${REDIS_URL:-}" ]]; then
    scripts/services up redis --folder "$work/services" >&2
    REDIS_URL="$(scripts/services env --folder "$work/services" | sed -n 's/^REDIS_URL=//p')"
  fi
  for ((number = 0; number < STREAM_COUNT; number++)); do keys+=("$name:$number"); done
  STREAMS="$name:{0..$((STREAM_COUNT - 1))}"
  export REDIS_URL STREAMS
  say "filling $STREAMS on $REDIS_URL with $EVENTS events"
  "$release/tidemill" generate user-events --events "$EVENTS" --keys "$USERS" 2> "$work/generated" \
    | LC_ALL=C awk -v name="$name" -v count="$STREAM_COUNT" '
      function bulk(text) { printf "$%d\r\n%s\r\n", length(text), text }
      { printf "*5\r\n"; bulk("XADD"); bulk(name ":" NR % count); bulk("*"); bulk("payload"); bulk($0) }' \
    | redis-cli -u "$REDIS_URL" --pipe > "$work/filled"
  # Once before any is measured.
  bare-reader "$THREADS" > "$work/warm-up"
  length="$(field rows < "$work/warm-up")"
  [[ "$length" == "$EVENTS" ]] || { say "the streams hold $length events instead of $EVENTS"; exit 1; }
}

build
prepare
measure
printf '\n%s events, %s streams, %s runs, %s threads\n\n' "$EVENTS" "$STREAM_COUNT" "$RUNS" "$THREADS"
print_table "of the bare reader"
