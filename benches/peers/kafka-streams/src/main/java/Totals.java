import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** Count and sum of one window and key. */
record Totals(long count, double sum) {
  static final Totals NONE = new Totals(0, 0);

  static final Serde<Totals> SERDE =
      Serdes.serdeFrom(
          (topic, totals) -> totals == null ? null : ByteBuffer.allocate(16).putLong(totals.count).putDouble(totals.sum).array(),
          (topic, bytes) -> {
            if (bytes == null) {
              return null;
            }
            ByteBuffer buffer = ByteBuffer.wrap(bytes);
            return new Totals(buffer.getLong(), buffer.getDouble());
          });

  Totals plus(double amount) {
    return new Totals(count + 1, sum + amount);
  }
}
