import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.DoubleAdder;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.BuiltInDslStoreSuppliers;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Count and sum per user and minute over all that a topic holds.
 *
 * <p>Arguments: brokers; topic; threads; {@code memory} (no changelog, its fastest) or {@code rocksdb} (its default); {@code
 * final} (each result once, when its minute is over) or {@code updates} (its default: a result again and again as it changes,
 * through a cache). Prints one line: rows, seconds from the first row to the last, results, count and sum over all results.
 * Windows that no later row has closed are added from the store at the end, in the case of updates all of them.
 */
public final class WindowedTotals {
  private static final Duration WINDOW = Duration.ofMinutes(1);
  private static final Duration OUT_OF_ORDERNESS = Duration.ofSeconds(5);
  private static final String STORE = "totals";

  private final long rows;
  private final boolean inMemory;
  private final boolean onlyFinal;
  private final AtomicLong seen = new AtomicLong();
  private final CountDownLatch finished = new CountDownLatch(1);
  private volatile long firstNanos;
  private volatile long lastNanos;

  private final LongAdder updates = new LongAdder();
  private final LongAdder results = new LongAdder();
  private final LongAdder count = new LongAdder();
  private final DoubleAdder sum = new DoubleAdder();
  /** End of the last window that each partition has emitted. */
  private final Map<Integer, Long> closedMillis = new ConcurrentHashMap<>();

  private WindowedTotals(long rows, boolean inMemory, boolean onlyFinal) {
    this.rows = rows;
    this.inMemory = inMemory;
    this.onlyFinal = onlyFinal;
  }

  public static void main(String[] args) throws Exception {
    String brokers = args[0];
    String topic = args[1];
    Map<TopicPartition, Long> ends = endOffsets(brokers, topic);
    long rows = ends.values().stream().mapToLong(Long::longValue).sum();
    new WindowedTotals(rows, args[3].equals("memory"), args[4].equals("final"))
        .run(settings(brokers, Integer.parseInt(args[2])), topic, ends.size());
  }

  private void run(Properties settings, String topic, int partitions) throws Exception {
    KafkaStreams streams = new KafkaStreams(topology(topic), settings);
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          finished.countDown();
          return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    streams.start();
    finished.await();
    // The last rows may still be on their way from the aggregate to the emitted results.
    TimeUnit.SECONDS.sleep(2);
    for (int partition = 0; partition < partitions; partition++) {
      addOpenWindows(streams, partition);
    }
    streams.close(Duration.ofSeconds(20));
    streams.cleanUp();
    System.out.printf(
        "rows=%d seconds=%.3f results=%d count=%d sum=%.2f updates=%d%n",
        seen.get(), (lastNanos - firstNanos) / 1e9, results.sum(), count.sum(), sum.sum(), updates.sum());
  }

  private Topology topology(String topic) {
    Materialized<String, Totals, WindowStore<Bytes, byte[]>> store =
        Materialized.<String, Totals, WindowStore<Bytes, byte[]>>as(STORE)
            .withKeySerde(Serdes.String())
            .withValueSerde(Totals.SERDE);
    if (onlyFinal) {
      // Each window that closes would search all of the cache for its keys. They close once a second of wall-clock time: what the
      // store has let go by then is lost.
      store = store.withCachingDisabled().withRetention(Duration.ofHours(1));
    } else {
      // Kept for the sum at the end.
      store = store.withRetention(Duration.ofDays(1));
    }
    if (inMemory) {
      store = store.withStoreType(BuiltInDslStoreSuppliers.IN_MEMORY).withLoggingDisabled();
    }
    Deserializer<Event> parse = (ignored, payload) -> Event.parse(payload);
    StreamsBuilder builder = new StreamsBuilder();
    builder.stream(
            topic,
            Consumed.with(Serdes.String(), Serdes.serdeFrom((ignored, event) -> new byte[0], parse))
                .withTimestampExtractor((record, partitionTime) -> ((Event) record.value()).timestampMillis))
        .groupByKey(Grouped.keySerde(Serdes.String()))
        .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, OUT_OF_ORDERNESS))
        .emitStrategy(onlyFinal ? EmitStrategy.onWindowClose() : EmitStrategy.onWindowUpdate())
        .aggregate(() -> Totals.NONE, (user, event, totals) -> add(event, totals), store)
        .toStream()
        .process(Emitted::new);
    return builder.build();
  }

  private Totals add(Event event, Totals totals) {
    long number = seen.incrementAndGet();
    if (number == 1) {
      firstNanos = System.nanoTime();
    }
    if (number == rows) {
      lastNanos = System.nanoTime();
      finished.countDown();
    }
    return totals.plus(event.amount);
  }

  private void addResult(Totals totals) {
    results.increment();
    count.add(totals.count());
    sum.add(totals.sum());
  }

  private void addOpenWindows(KafkaStreams streams, int partition) {
    var store =
        streams.store(
            StoreQueryParameters.fromNameAndType(STORE, QueryableStoreTypes.<String, Totals>windowStore()).withPartition(partition));
    long closed = closedMillis.getOrDefault(partition, Long.MIN_VALUE);
    try (var entries = store.all()) {
      while (entries.hasNext()) {
        var entry = entries.next();
        if (entry.key.window().end() > closed) {
          addResult(entry.value);
        }
      }
    }
  }

  /** Counts what is emitted, and remembers up to where. */
  private final class Emitted extends ContextualProcessor<Windowed<String>, Totals, Void, Void> {
    @Override
    public void process(Record<Windowed<String>, Totals> result) {
      if (!onlyFinal) {
        updates.increment();
        return;
      }
      addResult(result.value());
      closedMillis.merge(context().taskId().partition(), result.key().window().end(), Math::max);
    }
  }

  private static Properties settings(String brokers, int threads) throws Exception {
    Path state = Files.createTempDirectory("peer-kafka-streams");
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "peer-" + System.nanoTime());
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, threads);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, state.toString());
    settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    settings.put(StreamsConfig.consumerPrefix("max.poll.records"), 10_000);
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
    return settings;
  }

  private static Map<TopicPartition, Long> endOffsets(String brokers, String topic) throws Exception {
    try (Admin admin = Admin.create(Map.of("bootstrap.servers", brokers))) {
      var partitions = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions();
      Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
      partitions.forEach(partition -> asked.put(new TopicPartition(topic, partition.partition()), OffsetSpec.latest()));
      Map<TopicPartition, Long> ends = new HashMap<>();
      admin.listOffsets(asked).all().get().forEach((partition, end) -> ends.put(partition, end.offset()));
      return ends;
    }
  }
}
