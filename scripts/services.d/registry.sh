# Part of scripts/services: the schema registry of tools/registry, which speaks the REST API of Confluent's.

registry_binary="${CARGO_TARGET_DIR:-$root/target}/debug/tidemill-registry"

# Where a release of the sources has no registry, there is none to start.
registry_present() { [[ -e "$root/tools/registry/src/main.rs" ]]; }
registry_external() { echo "${SCHEMA_REGISTRY_URL:-}"; }
registry_port() { echo "$registry_port"; }
registry_processes() { echo registry; }
registry_address() { echo "http://127.0.0.1:$registry_port"; }
registry_env() { variable SCHEMA_REGISTRY_URL "$(registry_address)"; }
registry_start() { detach registry "$registry_binary" --listen "127.0.0.1:$registry_port"; }

registry_prepare() { # without cargo's lock where there is nothing to build
  local sources=("$root/tools/registry")
  if [[ -x "$registry_binary" && -z "$(find "${sources[@]}" -type f -newer "$registry_binary")" ]]; then return; fi
  cargo build --quiet --manifest-path "$root/Cargo.toml" -p tidemill-registry 9>&- \
    || fail "the schema registry does not build"
  touch "$registry_binary"
}

registry_answers() {
  local answer
  exec 3<> "/dev/tcp/127.0.0.1/$registry_port" || return 1
  printf 'GET /subjects HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3
  read -r -t 5 answer <&3 || true
  exec 3>&-
  [[ "$answer" == *" 200 "* ]]
} 2> /dev/null
