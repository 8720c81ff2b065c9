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
fastest="bare-consumer"
cleanup() {
  [[ ! -e "$work/services" ]] || scripts/services down --folder "$work/services"
  rm -rf "$work"
}
trap cleanup EXIT

. "$peers/contest.sh"

# --- contenders ------------------------------------------------------------------------------------------------------

bare-consumer() { timed "$release/examples/bare_consumer" "$KAFKA_BROKERS" "$TOPIC" "$1"; }

tidemill() { run_job "$peers/windowed-totals.sql" "$@"; }

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

build
prepare
measure
printf '\n%s events, %s partitions, %s runs, %s threads\n\n' "$EVENTS" "$PARTITIONS" "$RUNS" "$THREADS"
print_table "of the bare consumer"
