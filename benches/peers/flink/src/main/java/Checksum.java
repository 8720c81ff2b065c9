import java.util.Locale;

/**
 * What results add up to, whatever the order they come in: the same in every peer ({@code ../batch/results.py}).
 *
 * <p>Invariant: all but the sums agree bit by bit; the sums are weighted by their groups, so that they cannot change places unnoticed.
 * Subtasks of one process add what they have to one total when they end.
 */
final class Checksum {
  private static final Checksum TOTAL = new Checksum();

  private long results;
  private long exact;
  private double sums;
  private double means;

  /** What stands for a result's parts, where {@code before} stands for the earlier ones; 0 before the first. */
  static long mix(long before, long part) {
    return before * 0xbf7158809cf4f3c7L + part;
  }

  /** The finalizer of SplitMix64 (Steele, Lea, Flood 2014), with its increment. */
  private static long finish(long x) {
    x += 0x9e3779b97f4a7c15L;
    x = (x ^ (x >>> 30)) * 0xbf58476d1ce4e5b9L;
    x = (x ^ (x >>> 27)) * 0x94d049bb133111ebL;
    return x ^ (x >>> 31);
  }

  /** Adds a result: what stands for all that is exact, and what is not. */
  void add(long parts, double sum, double mean) {
    long hash = finish(parts);
    double weight = 0.5 + (hash >>> 11) * 0x1p-53;
    results++;
    exact += hash;
    sums += weight * sum;
    means += weight * mean;
  }

  /** Adds this one to what this process has in all. */
  void addToTotal() {
    synchronized (TOTAL) {
      TOTAL.results += results;
      TOTAL.exact += exact;
      TOTAL.sums += sums;
      TOTAL.means += means;
    }
  }

  /** What all subtasks have added since the last time. */
  static Checksum takeTotal() {
    synchronized (TOTAL) {
      Checksum taken = new Checksum();
      taken.results = TOTAL.results;
      taken.exact = TOTAL.exact;
      taken.sums = TOTAL.sums;
      taken.means = TOTAL.means;
      TOTAL.results = TOTAL.exact = 0;
      TOTAL.sums = TOTAL.means = 0;
      return taken;
    }
  }

  /** How it is told to {@code run}. The exact part is a string: not every reader of JSON keeps 64 bits. */
  String json() {
    return String.format(
        Locale.ROOT, "{\"results\": %d, \"exact\": \"%016x\", \"sums\": %s, \"means\": %s}", results, exact, sums, means);
  }
}
