# Part of benches/peers: contenders take turns, and a table says how they did. The script that reads this in has
# set EVENTS, RUNS, THREADS and `only`, the beginnings of the names asked for, and made:
#   work         a folder of its own            contenders   commands, each with its arguments in one string
#   fastest      the beginning of the names of those that the others are measured against; they come first
# A contender prints a line with rows= and seconds=, and with results= count= sum= where it has made results.

say() { printf '%s\n' "$*" >&2; }

timed() { # COMMAND...: leaves the seconds of CPU it took in $work/cpu
  local TIMEFORMAT='%U %S'
  { time "$@" 2>&3; } 3>&2 2> "$work/time" || return
  awk '{ print $1 + $2 }' "$work/time" > "$work/cpu"
}

run_job() { # JOB OPTION...: Tidemill over a job file that writes its results to $OUTPUT
  local started ended
  export OUTPUT="$work/totals"
  rm -rf "$OUTPUT"
  started="$(date +%s.%N)"
  timed "$release/tidemill" run "$@" --parallelism "$THREADS" 2> "$work/tidemill.log" \
    || { cat "$work/tidemill.log" >&2; return 1; }
  ended="$(date +%s.%N)"
  find "$OUTPUT" -type f -name '*.csv' -exec cat {} + | awk -F, -v started="$started" -v ended="$ended" '
    $4 ~ /^[0-9]+$/ { results++; count += $4; sum += $5 }
    END { printf "rows=%d seconds=%.3f results=%d count=%d sum=%.2f\n", count, ended - started, results, count, sum }'
}

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

print_table() { # HEADING: of the column that says how fast, as a share of the fastest
  local contender middle least greatest cpu limit=""
  printf '| contender | seconds, median (min – max) | M rows/s | %s | CPU seconds |\n|---|---|---|---|---|\n' "$1"
  for contender in "${contenders[@]}"; do
    [[ -e "$work/seconds of $contender" ]] || continue
    read -r middle least greatest < <(median "$work/seconds of $contender")
    read -r cpu _ < <(median "$work/cpu of $contender")
    if [[ "$contender" == "$fastest"* ]]; then limit="$(printf '%s\n' $limit "$middle" | sort -g | head -1)"; fi
    awk -v name="$contender" -v events="$EVENTS" -v limit="$limit" -v s="$middle" -v least="$least" -v greatest="$greatest" \
      -v cpu="$cpu" '
      BEGIN {
        share = limit == "" ? "" : sprintf("%.0f %%", 100 * limit / s)
        printf "| %s | %.2f (%.2f – %.2f) | %.2f | %s | %.1f |\n", name, s, least, greatest, events / s / 1e6, share, cpu
      }'
  done
}
