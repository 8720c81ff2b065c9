import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.bridge.java.StreamStatementSet;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;

/**
 * A job file in Flink SQL on a cluster in this process, as a peer of Tidemill; run by {@code ../run}.
 *
 * <p>Argument: the job file, whose tables are of the connectors {@code columns} and {@code totals}. Says {@code ready}, and then runs
 * the job once for every line of its input, which is a parallelism; answers with a line of JSON: the seconds from its reading the
 * first row to its last result, and what its results add up to.
 *
 * <p>Flink's own defaults hold but for objects, which operators may hand on instead of copying them, and managed memory.
 */
public final class SqlPeer {
  /** Most subtasks of an operator. */
  private static final int SLOTS = 2;

  private static final Pattern STATEMENT_SET = Pattern.compile("EXECUTE STATEMENT SET\\s+BEGIN(.*?)\\bEND\\s*;", Pattern.DOTALL);

  private SqlPeer() {}

  public static void main(String[] args) {
    try {
      serve(statements(Files.readString(Path.of(args[0]))));
    } catch (Exception error) {
      Throwable cause = error;
      while (cause.getCause() != null) {
        cause = cause.getCause();
      }
      System.err.println(args[0] + " failed: " + cause);
      System.exit(1);
    }
  }

  private static void serve(List<String> statements) throws Exception {
    Configuration settings = new Configuration();
    settings.set(PipelineOptions.OBJECT_REUSE, true);
    settings.set(TaskManagerOptions.MANAGED_MEMORY_SIZE, MemorySize.parse("512m"));
    MiniClusterConfiguration configuration =
        new MiniClusterConfiguration.Builder()
            .setConfiguration(settings)
            .setNumTaskManagers(1)
            .setNumSlotsPerTaskManager(SLOTS)
            .withRandomPorts()
            .build();
    try (MiniCluster cluster = new MiniCluster(configuration)) {
      cluster.start();
      System.out.println("ready");
      BufferedReader requests = new BufferedReader(new InputStreamReader(System.in));
      for (String line = requests.readLine(); line != null; line = requests.readLine()) {
        run(cluster, settings, statements, Integer.parseInt(line.trim()));
        System.out.printf("{\"seconds\": %s, \"checksum\": %s}%n", Stopwatch.takeSeconds(), Checksum.takeTotal().json());
      }
    }
  }

  private static void run(MiniCluster cluster, Configuration settings, List<String> statements, int parallelism)
      throws Exception {
    StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment(settings);
    environment.setParallelism(parallelism);
    StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
    StreamStatementSet inserts = tables.createStatementSet();
    for (String statement : statements) {
      if (statement.startsWith("INSERT")) {
        inserts.addInsertSql(statement);
      } else {
        tables.executeSql(statement);
      }
    }
    inserts.attachAsDataStream();
    cluster.executeJobBlocking(environment.getStreamGraph().getJobGraph());
  }

  /** The statements of a job file, those of its statement set one by one. None of its texts has a semicolon. */
  private static List<String> statements(String job) {
    Matcher set = STATEMENT_SET.matcher(job.replaceAll("(?m)--.*$", ""));
    List<String> statements = new ArrayList<>();
    for (String statement : set.replaceAll("$1").split(";")) {
      if (!statement.isBlank()) {
        statements.add(statement.strip());
      }
    }
    return statements;
  }
}
