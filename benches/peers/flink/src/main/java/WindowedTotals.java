import java.util.concurrent.atomic.DoubleAdder;
import java.util.concurrent.atomic.LongAdder;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.ProcessFunction;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.types.Row;
import org.apache.flink.util.Collector;

/**
 * Count and sum per user and minute over all that a topic holds, in Flink SQL with its own Kafka connector and JSON format, in one
 * process.
 *
 * <p>Arguments: brokers; topic; parallelism. Prints one line: rows, seconds of the job from its submission to its end, results, count
 * and sum over all results.
 */
public final class WindowedTotals {
  private static final LongAdder RESULTS = new LongAdder();
  private static final LongAdder COUNT = new LongAdder();
  private static final DoubleAdder SUM = new DoubleAdder();

  private static final String SOURCE =
      """
      CREATE TABLE user_events (
        user_id STRING, amount DOUBLE, ts TIMESTAMP(3),
        WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
      ) WITH ('connector' = 'kafka', 'topic' = '%s', 'properties.bootstrap.servers' = '%s',
              'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
              'properties.group.id' = 'peer-flink', 'format' = 'json')
      """;

  private static final String QUERY =
      """
      SELECT window_start, window_end, user_id, COUNT(*), SUM(amount)
      FROM TABLE(TUMBLE(TABLE user_events, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
      GROUP BY window_start, window_end, user_id
      """;

  private WindowedTotals() {}

  public static void main(String[] args) throws Exception {
    Configuration settings = new Configuration();
    settings.set(PipelineOptions.OBJECT_REUSE, true);
    settings.set(TaskManagerOptions.MANAGED_MEMORY_SIZE, MemorySize.parse("512m"));
    StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment(settings);
    environment.setParallelism(Integer.parseInt(args[2]));
    StreamTableEnvironment tables = StreamTableEnvironment.create(environment);

    tables.executeSql(SOURCE.formatted(args[1], args[0]));
    tables.toDataStream(tables.sqlQuery(QUERY)).process(new AddUp()).sinkTo(new DiscardingSink<>());
    double seconds = environment.execute("windowed-totals").getNetRuntime() / 1e3;
    System.out.printf(
        "rows=%d seconds=%.3f results=%d count=%d sum=%.2f%n", COUNT.sum(), seconds, RESULTS.sum(), COUNT.sum(), SUM.sum());
  }

  /** Adds every result to the totals; its parallel instances share this process. */
  private static final class AddUp extends ProcessFunction<Row, Void> {
    @Override
    public void processElement(Row result, Context context, Collector<Void> nothing) {
      RESULTS.increment();
      COUNT.add((Long) result.getField(3));
      Double sum = (Double) result.getField(4);
      if (sum != null) {
        SUM.add(sum);
      }
    }
  }
}
