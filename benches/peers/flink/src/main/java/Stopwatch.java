/**
 * How long a job takes from when its first subtask reads to when the last result is there, which leaves out how it is taken in and
 * spread. All subtasks share this process.
 */
final class Stopwatch {
  private static boolean runs;
  private static long started;
  private static long stopped;

  private Stopwatch() {}

  /** A subtask is about to read. */
  static synchronized void start() {
    if (!runs) {
      runs = true;
      started = System.nanoTime();
    }
  }

  /** A subtask has had its last result. */
  static synchronized void stop() {
    stopped = System.nanoTime();
  }

  /** Seconds from the first start to the last stop since this was asked last. */
  static synchronized double takeSeconds() {
    runs = false;
    return (stopped - started) / 1e9;
  }
}
