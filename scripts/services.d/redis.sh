# Part of scripts/services: Redis, without persistence.

redis_present() { true; }
redis_external() { echo "${REDIS_URL:-}"; }
redis_port() { echo "$redis_port"; }
redis_address() { echo "redis://127.0.0.1:$redis_port"; }
redis_prepare() { :; }
redis_env() { variable REDIS_URL "$(redis_address)"; }

redis_start() {
  detach redis redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$folder/redis" \
    --save "" --appendonly no --daemonize no
}

redis_answers() { [[ "$(redis-cli -h 127.0.0.1 -p "$redis_port" ping 2> /dev/null)" == PONG ]]; }
