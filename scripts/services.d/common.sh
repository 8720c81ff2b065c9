# Part of scripts/services: what all services share. A service X has the functions
#   X_present  it can be had here           X_external  the address given from outside, or nothing
#   X_prepare  lay out its folder           X_start     start the process; its pid goes to $folder/X/pid
#   X_answers  it really answers            X_env       NAME=VALUE lines for its users
#   X_address  where it listens, for people X_processes its processes, the first being X; each has its pid in $folder/NAME/pid
# Invariant: everything lies in $folder, which carries $folder/.tidemill-services and is removed only if it does; a
# process is signalled only if its command line names that folder or its address.

services=(kafka redis registry)
patience_seconds=120

fail() { echo "services: $*" >&2; exit 1; }
fail_usage() { usage >&2; exit 2; }
known() { [[ " ${services[*]} " == *" $1 "* ]]; }

choose() { # the services asked for, or all, into `wanted`
  local service
  if (($#)); then wanted=("$@"); else wanted=("${services[@]}"); fi
  for service in "${wanted[@]}"; do
    known "$service" || fail "no service is called '$service'; there are: ${services[*]}"
  done
}

locked() { # one change to a folder at a time; the lock lies beside the folder, because `down` removes that
  mkdir -p "$(dirname "$folder")"
  exec 9> "$folder.lock"
  flock -w 600 9 || fail "another run has held $folder.lock for ten minutes"
  "$@"
}

claim_folder() {
  if [[ -e "$folder" && ! -e "$folder/.tidemill-services" && -n "$(ls -A "$folder")" ]]; then
    fail "$folder holds something else; choose an empty or new one with --folder"
  fi
  mkdir -p "$folder"
  touch "$folder/.tidemill-services"
}

# --- ports -----------------------------------------------------------------------------------------------------------

port_taken() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

choose_ports() { # once for a folder: what was started before keeps its ports
  compgen -G "$folder/*/env" > /dev/null && return
  local base="${TIDEMILL_SERVICES_PORT_BASE:-}" offset
  if [[ -n "$own_set" && -z "$base" ]]; then base="$(free_port_base)"; fi
  if [[ -z "$base" ]]; then
    echo "kafka_port=19092 redis_port=16379 registry_port=18081 redis_more_port=16380" > "$folder/ports"
  else
    echo "kafka_port=$base redis_port=$((base + 5)) registry_port=$((base + 6)) redis_more_port=$((base + 7))" > "$folder/ports"
  fi
}

free_port_base() { # twenty ports in a row below those that the system hands out by itself
  local try offset base
  for try in {1..100}; do
    base=$((20000 + (SRANDOM % 600) * 20))
    for offset in {0..14}; do port_taken $((base + offset)) && continue 2; done
    echo "$base"
    return
  done
  fail "found no fifteen free ports in a row; set TIDEMILL_SERVICES_PORT_BASE"
}

load_ports() {
  [[ -e "$folder/ports" ]] || return 1
  . "$folder/ports"
}

# --- processes -------------------------------------------------------------------------------------------------------

running() { # PROCESS: is the one that we started alive?
  local pid
  pid="$(cat "$folder/$1/pid" 2> /dev/null)" || return 1
  { tr '\0' ' ' < "/proc/$pid/cmdline"; } 2> /dev/null | grep -qF -e "$(signature "$1")"
}

signature() { # what the command line of a process contains
  case "$1" in
    kafka) echo "$folder/kafka/server.properties" ;;
    redis | redis/*) echo "127.0.0.1:$(redis_port_of "$1")" ;;
    registry) echo "127.0.0.1:$registry_port" ;;
  esac
}

detach() { # PROCESS COMMAND...: runs on when this script has ended, and holds neither its lock nor its pipes
  local service="$1"
  shift
  setsid "$@" < /dev/null >> "$folder/$service/output.log" 2>&1 9>&- &
  echo $! > "$folder/$service/pid"
  # Until the new process is that of the command, it still looks like this script.
  until running "$service" || ! kill -0 $! 2> /dev/null; do sleep 0.02; done
  disown
}

end_process() { # PROCESS [SIGNAL]: signal, wait, and kill what does not go
  local service="$1" signal="${2:-TERM}" pid waited
  running "$service" || { rm -f "$folder/$service/pid"; return 0; }
  pid="$(cat "$folder/$service/pid")"
  kill "-$signal" "$pid"
  for waited in {1..300}; do
    running "$service" || break
    sleep 0.1
  done
  running "$service" && kill -KILL "$pid"
  rm -f "$folder/$service/pid"
}

complete() { # SERVICE: do all its processes run?
  local process
  for process in $("$1_processes"); do running "$process" || return 1; done
}

end_service() { # SERVICE SIGNAL
  local process
  for process in $("$1_processes"); do end_process "$process" "$2"; done
}

wait_for() { # SERVICE: until it answers; a process that died ends the wait
  local service="$1" deadline=$((SECONDS + patience_seconds))
  until "${service}_answers"; do
    if ! running "$service"; then
      tail -n 30 "$folder/$service/"*.log >&2 2> /dev/null || true
      fail "$service has ended instead of answering on $("${service}_address"); its last words are above"
    fi
    if ((SECONDS > deadline)); then
      tail -n 30 "$folder/$service/"*.log >&2 2> /dev/null || true
      fail "$service does not answer on $("${service}_address") after $patience_seconds s"
    fi
    sleep 0.1
  done
}

certificates() { # FOLDER: an authority, a server's certificate from it, and another authority that signed nothing
  local tls="$1" name
  [[ -e "$tls/server.pem" ]] && return
  mkdir -p "$tls"
  (
    cd "$tls"
    for name in ca wrong-ca; do
      openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=tidemill test $name" \
        -keyout "$name.key" -out "$name.pem"
    done
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=localhost" \
      -keyout server.key -out server.csr
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -out server.crt \
      -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1")
    cat server.key server.crt > server.pem
  ) > "$tls.log" 2>&1 || { cat "$tls.log" >&2; fail "could not make the test certificates"; }
}

# --- commands --------------------------------------------------------------------------------------------------------

external() { # SERVICE: the address from outside, unless it is our own or a set of its own is asked for
  local given
  [[ -z "$own_set" ]] || return 1
  given="$("$1_external")"
  [[ -n "$given" ]] || return 1
  ! { load_ports && [[ "$given" == "$("$1_address")" ]]; }
}

up() {
  local service wanted ours=()
  choose "$@"
  claim_folder
  for service in "${wanted[@]}"; do
    if external "$service"; then
      mkdir -p "$folder/$service"
      "${service}_external" > "$folder/$service/external"
    elif "${service}_present"; then
      ours+=("$service")
    fi
  done
  install_missing "${ours[@]}"
  choose_ports
  load_ports
  for service in "${ours[@]}"; do require_port "$service"; done
  # All are started before any is waited for.
  for service in "${ours[@]}"; do launch "$service"; done
  for service in "${ours[@]}"; do wait_for "$service"; done
  report "${wanted[@]}"
}

require_port() {
  if ! running "$1" && port_taken "$("$1_port")"; then
    fail "$("$1_address") is taken by another process; end that, or run \`down\` and set TIDEMILL_SERVICES_PORT_BASE"
  fi
}

launch() {
  local service="$1"
  complete "$service" && return
  rm -f "$folder/$service/external"
  mkdir -p "$folder/$service"
  "${service}_prepare"
  "${service}_env" > "$folder/$service/env"
  "${service}_start"
}

report() {
  local service
  for service; do
    if [[ -e "$folder/$service/external" ]]; then
      printf '%-9s %s (given)\n' "$service" "$(cat "$folder/$service/external")"
    elif running "$service"; then
      printf '%-9s %s\n' "$service" "$("${service}_address")"
    fi
  done
}

status() {
  local service code=0 wanted
  choose "$@"
  load_ports || { echo "nothing runs in $folder"; exit 1; }
  for service in "${wanted[@]}"; do
    if [[ -e "$folder/$service/external" ]]; then
      printf '%-9s %s (given)\n' "$service" "$(cat "$folder/$service/external")"
    elif ! "${service}_present" && [[ ! -e "$folder/$service/env" ]]; then
      continue
    elif running "$service" && "${service}_answers"; then
      printf '%-9s %s\n' "$service" "$("${service}_address")"
    else
      printf '%-9s down\n' "$service"
      code=1
    fi
  done
  exit "$code"
}

down() {
  local service
  if load_ports; then
    # Nothing is kept, so nothing needs an orderly end.
    for service in "${services[@]}"; do end_service "$service" KILL; done
  fi
  if [[ -e "$folder/.tidemill-services" ]]; then rm -rf "$folder"; fi
  rm -f "$folder.lock"
}

start_one() {
  load_ports && [[ -e "$folder/$1/env" ]] || fail "$1 was never up in $folder; run: scripts/services up $1"
  complete "$1" || "$1_start"
  wait_for "$1"
}

stop_one() {
  load_ports || fail "nothing runs in $folder"
  end_service "$1" TERM
}

print_env() {
  local service
  [[ -e "$folder/ports" ]] || fail "nothing runs in $folder; run: scripts/services up"
  variable TIDEMILL_SERVICES_FOLDER "$folder"
  for service in "${services[@]}"; do
    if [[ -e "$folder/$service/external" ]]; then
      variable "$(external_name "$service")" "$(cat "$folder/$service/external")"
    elif [[ -e "$folder/$service/env" ]]; then
      cat "$folder/$service/env"
    fi
  done
}

variable() { # NAME VALUE; a comma needs no quoting
  local quoted
  printf -v quoted %q "$2"
  printf '%s=%s\n' "$1" "${quoted//\\,/,}"
}

external_name() {
  case "$1" in
    kafka) echo KAFKA_BROKERS ;;
    redis) echo REDIS_URL ;;
    registry) echo SCHEMA_REGISTRY_URL ;;
  esac
}

# --- installing ------------------------------------------------------------------------------------------------------

install_missing() { # for the services named, `build` for what cargo needs, `browser` for the tests of pages, `valgrind`
  local packages=() service
  for service; do
    case "$service" in
      kafka)
        command -v java > /dev/null || packages+=(default-jre-headless)
        command -v mvn > /dev/null || packages+=(maven)
        command -v openssl > /dev/null || packages+=(openssl) ;;
      redis)
        command -v redis-server > /dev/null || packages+=(redis-server)
        command -v openssl > /dev/null || packages+=(openssl) ;;
      build)
        command -v pkg-config > /dev/null || packages+=(pkg-config)
        pkg-config --exists openssl 2> /dev/null || packages+=(libssl-dev) ;;
      browser)
        command -v chromium chromium-browser google-chrome google-chrome-stable > /dev/null || packages+=(chromium) ;;
      valgrind)
        command -v valgrind > /dev/null || packages+=(valgrind) ;;
    esac
  done
  ((${#packages[@]})) || return 0
  if ((EUID != 0)) || ! command -v apt-get > /dev/null; then
    fail "missing: ${packages[*]} (names of Debian packages); install them, then run this again"
  fi
  echo "services: installing ${packages[*]}" >&2
  local log
  log="$(mktemp)"
  { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${packages[@]}"; } \
    > "$log" 2>&1 || { tail -n 20 "$log" >&2; fail "apt-get could not install ${packages[*]}; its last words are above"; }
  rm -f "$log"
}
