# Part of scripts/services: Redis, without persistence. Five processes of some 10 MB each:
#   redis         plain, and with TLS on the next port; no password
#   redis/acl     answers nobody without a password. Users and passwords are for tests
#   redis/node-N  three masters of a cluster, which share the slots

redis_user=tidemill redis_password=tidemill-test-password
redis_limited_user=limited redis_limited_password=limited-test-password
redis_nodes=(1 2 3)

redis_present() { true; }
redis_external() { echo "${REDIS_URL:-}"; }
redis_port() { echo "$redis_port"; }
redis_address() { echo "redis://127.0.0.1:$redis_port"; }
redis_processes() { echo redis redis/acl "${redis_nodes[@]/#/redis/node-}"; }

redis_port_of() { # PROCESS: where it listens without TLS; the buses of the cluster come behind its nodes
  case "$1" in
    redis) echo "$redis_port" ;;
    redis/acl) echo $((redis_more_port + 1)) ;;
    redis/node-*) echo $((redis_more_port + 1 + ${1##*-})) ;;
  esac
}

redis_env() {
  local acl process cluster=()
  acl="127.0.0.1:$(redis_port_of redis/acl)"
  for process in "${redis_nodes[@]/#/redis/node-}"; do cluster+=("redis://127.0.0.1:$(redis_port_of "$process")"); done
  variable REDIS_URL "$(redis_address)"
  variable REDIS_TLS_URL "rediss://127.0.0.1:$redis_more_port"
  variable REDIS_CA "$folder/redis/tls/ca.pem"
  variable REDIS_WRONG_CA "$folder/redis/tls/wrong-ca.pem"
  variable REDIS_ACL_URL "redis://$redis_user:$redis_password@$acl"
  variable REDIS_LIMITED_URL "redis://$redis_limited_user:$redis_limited_password@$acl"
  variable REDIS_TEST_USER "$redis_user"
  variable REDIS_TEST_PASSWORD "$redis_password"
  variable REDIS_CLUSTER "$(IFS=,; echo "${cluster[*]}")"
}

redis_prepare() {
  local process
  for process in $(redis_processes); do mkdir -p "$folder/$process"; done
  certificates "$folder/redis/tls"
  cat > "$folder/redis/acl/users.acl" <<END
user default on >$redis_password ~* &* +@all
user $redis_user on >$redis_password ~* &* +@all
user $redis_limited_user on >$redis_limited_password resetkeys resetchannels -@all +@connection
END
}

# --- life ------------------------------------------------------------------------------------------------------------

redis_start() {
  local tls="$folder/redis/tls" node
  redis_launch redis --tls-port "$redis_more_port" --tls-auth-clients no \
    --tls-cert-file "$tls/server.crt" --tls-key-file "$tls/server.key" --tls-ca-cert-file "$tls/ca.pem"
  redis_launch redis/acl --aclfile "$folder/redis/acl/users.acl"
  for node in "${redis_nodes[@]}"; do
    redis_launch "redis/node-$node" --cluster-enabled yes --cluster-node-timeout 2000 \
      --cluster-port $((redis_more_port + 1 + ${#redis_nodes[@]} + node))
  done
  redis_form_cluster
}

redis_launch() { # PROCESS OPTION...
  local process="$1"
  shift
  running "$process" || detach "$process" redis-server --bind 127.0.0.1 --port "$(redis_port_of "$process")" \
    --dir "$folder/$process" --save "" --appendonly no --daemonize no "$@"
}

redis_form_cluster() { # by hand in two seconds; `redis-cli --cluster create` takes more than twice as long
  local node others count=${#redis_nodes[@]}
  for node in "${redis_nodes[@]}"; do
    until redis_asked "redis/node-$node" ping > /dev/null; do
      running "redis/node-$node" || fail "node $node of the Redis cluster has ended; see $folder/redis/node-$node/output.log"
      sleep 0.02
    done
  done
  # Nodes that come back know one another.
  [[ "$(redis_asked redis/node-1 cluster info)" == *cluster_slots_assigned:0* ]] || return 0
  # A node may number its configuration only as long as it has met nobody.
  for node in "${redis_nodes[@]}"; do
    redis_asked "redis/node-$node" cluster set-config-epoch "$node"
    redis_asked "redis/node-$node" cluster addslotsrange $((16384 * (node - 1) / count)) $((16384 * node / count - 1))
  done > "$folder/redis/cluster.log" 2>&1
  for node in "${redis_nodes[@]}"; do
    for others in "${redis_nodes[@]:$node}"; do
      redis_asked "redis/node-$node" cluster meet 127.0.0.1 "$(redis_port_of "redis/node-$others")" \
        $((redis_more_port + 1 + count + others))
    done
  done >> "$folder/redis/cluster.log" 2>&1
}

redis_asked() { # PROCESS COMMAND...
  local process="$1"
  shift
  redis-cli -h 127.0.0.1 -p "$(redis_port_of "$process")" "$@"
} 2> /dev/null

redis_answers() {
  local node
  [[ "$(redis_asked redis ping)" == PONG && "$(redis_asked redis/acl ping)" == NOAUTH* ]] || return 1
  for node in "${redis_nodes[@]}"; do
    [[ "$(redis_asked "redis/node-$node" cluster info)" == *cluster_state:ok*cluster_known_nodes:${#redis_nodes[@]}* ]] || return 1
  done
}
