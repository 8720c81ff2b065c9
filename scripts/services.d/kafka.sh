# Part of scripts/services: Apache Kafka, broker and controller in one process.
#
# Five ports: PLAINTEXT, the controller, SSL, SASL_SSL, SASL_PLAINTEXT. Users, passwords and certificates are for tests.

kafka_user=tidemill kafka_password=tidemill-test-password
kafka_limited_user=limited kafka_limited_password=limited-test-password

kafka_present() { true; }
kafka_external() { echo "${KAFKA_BROKERS:-}"; }
kafka_port() { echo "$kafka_port"; }
kafka_address() { echo "127.0.0.1:$kafka_port"; }
kafka_processes() { echo kafka; }

kafka_env() {
  variable KAFKA_BROKERS "127.0.0.1:$kafka_port"
  variable KAFKA_SSL_BROKERS "127.0.0.1:$((kafka_port + 2))"
  variable KAFKA_SASL_SSL_BROKERS "127.0.0.1:$((kafka_port + 3))"
  variable KAFKA_SASL_PLAINTEXT_BROKERS "127.0.0.1:$((kafka_port + 4))"
  variable KAFKA_CA "$folder/kafka/tls/ca.pem"
  variable KAFKA_WRONG_CA "$folder/kafka/tls/wrong-ca.pem"
  variable KAFKA_TEST_USER "$kafka_user"
  variable KAFKA_TEST_PASSWORD "$kafka_password"
  variable KAFKA_LIMITED_USER "$kafka_limited_user"
  variable KAFKA_LIMITED_PASSWORD "$kafka_limited_password"
}

# --- jars ------------------------------------------------------------------------------------------------------------

kafka_classpath() { # resolved once per pom.xml; the jars stay where Maven keeps them
  local cache="$root/target/services/classpath" jars="" fresh
  if [[ -e "$cache" && "$cache" -nt "$parts/pom.xml" ]]; then
    jars="$(cat "$cache")"
    [[ -e "${jars%%:*}" ]] && { echo "$jars"; return; }
  fi
  mkdir -p "${cache%/*}"
  fresh="$(mktemp "$cache.XXXXXX")"
  mvn --batch-mode --quiet --file "$parts/pom.xml" dependency:build-classpath -Dmdep.outputFile="$fresh" >&2 9>&- \
    || fail "Maven could not bring the jars of Kafka; its words are above"
  mv "$fresh" "$cache"
  cat "$cache"
}

kafka_java() { # CLASS ARG...: a short-lived program
  local classpath
  classpath="$(kafka_classpath)"
  java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dtidemill.log="$folder/kafka/tools.log" \
    -Dlog4j2.configurationFile="$parts/log4j2.properties" -cp "$classpath" "$@"
}

# --- life ------------------------------------------------------------------------------------------------------------

kafka_prepare() {
  local of="$folder/kafka"
  [[ -e "$of/data/meta.properties" ]] && return
  certificates "$of/tls"
  kafka_configuration > "$of/server.properties"
  kafka_java kafka.tools.StorageTool format --cluster-id tidemill-services-0000 --config "$of/server.properties" \
    --add-scram "SCRAM-SHA-256=[name=$kafka_user,password=$kafka_password]" \
    --add-scram "SCRAM-SHA-256=[name=$kafka_limited_user,password=$kafka_limited_password]" \
    > "$of/format.log" 2>&1 9>&- || { cat "$of/format.log" >&2; fail "could not lay out the broker's storage"; }
}

kafka_configuration() {
  local security=org.apache.kafka.common.security
  local plain="$security.plain.PlainLoginModule required user_$kafka_user=\"$kafka_password\" user_$kafka_limited_user=\"$kafka_limited_password\";"
  local scram="$security.scram.ScramLoginModule required;"
  local oauth="$security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"$kafka_user\";"
  sed -e "s|@FOLDER@|$folder/kafka|; s|@USER@|$kafka_user|" \
    -e "s|@PLAINTEXT_PORT@|$kafka_port|g; s|@CONTROLLER_PORT@|$((kafka_port + 1))|g; s|@SSL_PORT@|$((kafka_port + 2))|g" \
    -e "s|@SASL_SSL_PORT@|$((kafka_port + 3))|g; s|@SASL_PLAINTEXT_PORT@|$((kafka_port + 4))|g" \
    -e "s|@PLAIN_JAAS@|$plain|; s|@SCRAM_JAAS@|$scram|; s|@OAUTH_JAAS@|$oauth|" \
    "$parts/server.properties"
}

kafka_start() {
  local classpath
  classpath="$(kafka_classpath)"
  detach kafka java -Xmx512m -Xms128m -Djava.awt.headless=true -Dtidemill.log="$folder/kafka/server.log" \
    -Dlog4j2.configurationFile="$parts/log4j2.properties" -cp "$classpath" kafka.Kafka "$folder/kafka/server.properties"
}

kafka_answers() { # a metadata request by hand names at least one broker
  local answer
  answer="$(
    exec 3<> "/dev/tcp/127.0.0.1/$kafka_port" || exit 1
    # size 18, Metadata (3) version 1, correlation 1, client "tide", no topics
    printf '\0\0\0\022\0\003\0\001\0\0\0\001\0\004tide\0\0\0\0' >&3
    # size, correlation, number of brokers
    timeout 5 head -c 12 <&3 | od -An -tx1 -j8 | tr -d ' \n'
  )"
  [[ -n "$answer" && "$answer" != 00000000 ]]
} 2> /dev/null

# --- tools -----------------------------------------------------------------------------------------------------------

kafka_tool() {
  local name="$1" class
  shift
  case "$name" in
    topics) class=org.apache.kafka.tools.TopicCommand ;;
    consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    acls) class=org.apache.kafka.tools.AclCommand ;;
    transactions) class=org.apache.kafka.tools.TransactionsCommand ;;
    configs) class=kafka.admin.ConfigCommand ;;
    console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    console-producer) class=org.apache.kafka.tools.ConsoleProducer ;;
    get-offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
    *) fail "no tool is called '$name'; see scripts/services --help" ;;
  esac
  # Where the environment names brokers, they are meant, unless a set is named.
  local brokers="${KAFKA_BROKERS:-}"
  if [[ -z "$brokers" || -n "$own_set" ]]; then
    load_ports || fail "nothing runs in $folder; run: scripts/services up"
    brokers="$(cat "$folder/kafka/external" 2> /dev/null || kafka_address)"
  fi
  kafka_java "$class" --bootstrap-server "$brokers" "$@"
}
