#!/usr/bin/env bash
# One topic on one broker, read to its end by Tidemill and its peers in turns: count and sum per user and minute of JSON
# events. Prints a table of medians; a contender whose totals differ from the others' ends it with an error.
#
#   benches/peers/kafka.sh                                    # 10 million events, 4 partitions, 3 runs each, 2 threads
#   EVENTS=1000000 RUNS=1 benches/peers/kafka.sh bare tidemill  # only those whose name begins so
#
# The broker is one of scripts/services, of its own and gone afterwards, or that of KAFKA_BROKERS. All but the bare consumer
# decode, group and sum; Tidemill also writes its results to a file, which is where its totals are read from.
# Seconds: of the whole job for Tidemill and Flink; from the first record to the last for the bare consumer and for Kafka
# Streams, which joins its group for some seconds first. CPU seconds are of the whole process, starting included.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

EVENTS="${EVENTS:-10000000}" PARTITIONS="${PARTITIONS:-4}" RUNS="${RUNS:-3}" THREADS="${THREADS:-2}"
only=("$@")
work="$(mktemp -d)"
peers=benches/peers
release="${CARGO_TARGET_DIR:-target}/release"
cleanup() {
  [[ ! -e "$work/services" ]] || scripts/services down --folder "$work/services"
  rm -rf "$work"
}
trap cleanup EXIT

say() { printf '%s\n' "$*" >&2; }

# --- contenders: each prints a line with rows= seconds= and, but for the bare consumer, results= count= sum= -----------

timed() { # COMMAND...: leaves the seconds of CPU it took in $work/cpu
  local TIMEFORMAT='%U %S'
  { time "$@" 2>&3; } 3>&2 2> "$work/time" || return
  awk '{ print $1 + $2 }' "$work/time" > "$work/cpu"
}

bare-consumer() { timed "$release/examples/bare_consumer" "$KAFKA_BROKERS" "$TOPIC" "$1"; }

tidemill() { # OPTION...
  local started ended
  export OUTPUT="$work/totals"
  rm -rf "$OUTPUT"
  started="$(date +%s.%N)"
  timed "$release/tidemill" run "$peers/windowed-totals.sql" --parallelism "$THREADS" "$@" 2> "$work/tidemill.log" \
    || { cat "$work/tidemill.log" >&2; return 1; }
  ended="$(date +%s.%N)"
  find "$OUTPUT" -type f -name '*.csv' -exec cat {} + | awk -F, -v started="$started" -v ended="$ended" '
    $4 ~ /^[0-9]+$/ { results++; count += $4; sum += $5 }
    END { printf "rows=%d seconds=%.3f results=%d count=%d sum=%.2f\n", count, ended - started, results, count, sum }'
}

tidemill-checkpoints() { tidemill --checkpoint-dir "file://$work/checkpoints" --checkpoint-interval 10s --fresh; }

kafka-streams() { # STORE EMISSION
  timed java -Xmx3g -cp "$peers/kafka-streams/target/classes:$(cat "$peers/kafka-streams/target/classpath")" \
    WindowedTotals "$KAFKA_BROKERS" "$TOPIC" "$THREADS" "$@"
}

flink() {
  timed java -Xmx3g --add-opens=java.base/java.util=ALL-UNNAMED --add-opens=java.base/java.lang=ALL-UNNAMED \
    -cp "$peers/flink/target/classes:$(cat "$peers/flink/target/classpath")" \
    WindowedTotals "$KAFKA_BROKERS" "$TOPIC" "$THREADS"
}

contenders=(
  "bare-consumer 1" "bare-consumer $THREADS" "tidemill" "tidemill-checkpoints" "flink"
  "kafka-streams memory final" "kafka-streams rocksdb updates"
)

# --- preparation -----------------------------------------------------------------------------------------------------

build() {
  say "building"
  # devdeps: with it, the features of all dependencies are those of every other build here.
  cargo build --quiet --release -p tidemill -p devdeps --bin tidemill
  cargo build --quiet --release -p tidemill-kafka -p devdeps --example bare_consumer
  local peer
  for peer in kafka-streams flink; do
    (cd "$peers/$peer" && mvn --quiet --batch-mode compile dependency:build-classpath -Dmdep.outputFile=target/classpath >&2)
  done
}

prepare() {
  if [[ -z "${KAFKA_BROKERS:-}" ]]; then
    scripts/services up kafka --folder "$work/services" >&2
    KAFKA_BROKERS="$(scripts/services env --folder "$work/services" | sed -n 's/^KAFKA_BROKERS=//p')"
  fi
  TOPIC="peers-$$"
  export KAFKA_BROKERS TOPIC
  say "filling $TOPIC on $KAFKA_BROKERS with $EVENTS events"
  "$release/tidemill" generate user-events --events "$EVENTS" --partitions "$PARTITIONS" --no-headers \
    --to "kafka://$KAFKA_BROKERS/$TOPIC"
  # Once before any is measured, so that all find the topic in memory.
  bare-consumer "$THREADS" > "$work/warm-up"
  [[ "$(field rows < "$work/warm-up")" == "$EVENTS" ]] || { say "the topic does not hold $EVENTS events"; exit 1; }
}

# --- measuring -------------------------------------------------------------------------------------------------------

field() { sed -n "s/.*\b$1=\([^ ]*\).*/\1/p"; }

check() { # CONTENDER LINE: its totals are those of the first that had any
  local totals
  totals="$(grep -o 'results=.*sum=[0-9.]*' <<< "$2" || true)"
  [[ "$(field rows <<< "$2")" == "$EVENTS" ]] || { say "$1 did not count $EVENTS rows: $2"; exit 1; }
  [[ -n "$totals" ]] || return 0
  [[ -e "$work/expected" ]] || echo "$totals" > "$work/expected"
  # Sums are of doubles, added in different orders.
  awk -v expected="$(cat "$work/expected")" -v found="$totals" 'BEGIN {
    split(expected, e, /[ =]/); split(found, f, /[ =]/)
    exit !(e[2] == f[2] && e[4] == f[4] && (e[6] - f[6]) ^ 2 < 0.01)
  }' || { say "$1 found $totals; before it was $(cat "$work/expected")"; exit 1; }
}

wanted() { # CONTENDER
  local prefix
  ((${#only[@]})) || return 0
  for prefix in "${only[@]}"; do [[ "$1" != "$prefix"* ]] || return 0; done
  return 1
}

measure() {
  local run contender line
  for ((run = 1; run <= RUNS; run++)); do
    for contender in "${contenders[@]}"; do
      wanted "$contender" || continue
      line="$($contender)"
      say "run $run, $contender: $line cpu=$(cat "$work/cpu")"
      check "$contender" "$line"
      field seconds <<< "$line" >> "$work/seconds of $contender"
      cat "$work/cpu" >> "$work/cpu of $contender"
    done
  done
}

median() { # FILE: median, least and greatest of its numbers
  sort -n "$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)], all[1], all[NR] }'
}

print_table() {
  local contender middle least greatest cpu limit=""
  printf '\n%s events, %s partitions, %s runs, %s threads\n\n' "$EVENTS" "$PARTITIONS" "$RUNS" "$THREADS"
  printf '| contender | seconds, median (min – max) | M rows/s | of the bare consumer | CPU seconds |\n|---|---|---|---|---|\n'
  for contender in "${contenders[@]}"; do
    [[ -e "$work/seconds of $contender" ]] || continue
    read -r middle least greatest < <(median "$work/seconds of $contender")
    read -r cpu _ < <(median "$work/cpu of $contender")
    # The limit is the fastest of the bare consumers, which come first.
    if [[ "$contender" == bare-consumer* ]]; then limit="$(printf '%s\n' $limit "$middle" | sort -g | head -1)"; fi
    awk -v name="$contender" -v events="$EVENTS" -v limit="$limit" -v s="$middle" -v least="$least" -v greatest="$greatest" \
      -v cpu="$cpu" '
      BEGIN {
        share = limit == "" ? "" : sprintf("%.0f %%", 100 * limit / s)
        printf "| %s | %.2f (%.2f – %.2f) | %.2f | %s | %.1f |\n", name, s, least, greatest, events / s / 1e6, share, cpu
      }'
  done
}

build
prepare
measure
print_table
