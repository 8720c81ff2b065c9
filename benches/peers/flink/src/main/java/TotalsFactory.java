import java.util.List;
import java.util.Set;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.sink.SinkV2Provider;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.factories.DynamicTableSinkFactory;
import org.apache.flink.table.types.logical.DecimalType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;

/**
 * The connector {@code totals}: adds results to a {@link Checksum} and forgets them.
 *
 * <p>The columns {@code total} and {@code mean} are floats whose last bits depend on the order of addition; all others must be right bit
 * by bit.
 */
public final class TotalsFactory implements DynamicTableSinkFactory {
  @Override
  public String factoryIdentifier() {
    return "totals";
  }

  @Override
  public Set<ConfigOption<?>> requiredOptions() {
    return Set.of();
  }

  @Override
  public Set<ConfigOption<?>> optionalOptions() {
    return Set.of();
  }

  @Override
  public DynamicTableSink createDynamicTableSink(Context context) {
    return new Table((RowType) context.getPhysicalRowDataType().getLogicalType());
  }

  private record Table(RowType type) implements DynamicTableSink {
    @Override
    public ChangelogMode getChangelogMode(ChangelogMode requested) {
      return ChangelogMode.insertOnly();
    }

    @Override
    public SinkRuntimeProvider getSinkRuntimeProvider(Context context) {
      return SinkV2Provider.of(new Totals(type));
    }

    @Override
    public DynamicTableSink copy() {
      return this;
    }

    @Override
    public String asSummaryString() {
      return "totals";
    }
  }

  private record Totals(RowType type) implements Sink<RowData> {
    @Override
    public SinkWriter<RowData> createWriter(WriterInitContext context) {
      return new Writer(type);
    }
  }

  private static final class Writer implements SinkWriter<RowData> {
    private final Checksum checksum = new Checksum();
    private final LogicalType[] exact;
    private final int total;
    private final int mean;

    Writer(RowType type) {
      List<String> names = type.getFieldNames();
      total = names.indexOf("total");
      mean = names.indexOf("mean");
      exact = type.getChildren().toArray(LogicalType[]::new);
      if (total >= 0) {
        exact[total] = null;
        exact[mean] = null;
      }
    }

    @Override
    public void write(RowData result, Context context) {
      long hash = 0;
      for (int column = 0; column < exact.length; column++) {
        if (exact[column] != null) {
          hash = mix(hash, result, column, exact[column]);
        }
      }
      if (total < 0) {
        checksum.add(hash, 0, 0);
      } else {
        checksum.add(hash, result.getDouble(total), result.getDouble(mean));
      }
    }

    @Override
    public void flush(boolean endOfInput) {
      if (endOfInput) {
        checksum.addToTotal();
        Stopwatch.stop();
      }
    }

    @Override
    public void close() {}
  }

  private static long mix(long hash, RowData row, int column, LogicalType type) {
    return switch (type.getTypeRoot()) {
      case BIGINT -> Checksum.mix(hash, row.getLong(column));
      case DOUBLE -> Checksum.mix(hash, Double.doubleToRawLongBits(row.getDouble(column)));
      case TIMESTAMP_WITHOUT_TIME_ZONE -> {
        TimestampData time = row.getTimestamp(column, 3);
        yield Checksum.mix(hash, time.getMillisecond() * 1_000);
      }
      case DECIMAL -> {
        int scale = ((DecimalType) type).getScale();
        DecimalData decimal = row.getDecimal(column, ((DecimalType) type).getPrecision(), scale);
        yield Checksum.mix(hash, decimal.toBigDecimal().unscaledValue().longValue());
      }
      case VARCHAR -> mix(hash, row.getString(column));
      default -> throw new IllegalArgumentException("results of type " + type + " cannot be added up");
    };
  }

  /** A text counts with its length and its first 16 bytes. */
  private static long mix(long hash, StringData text) {
    byte[] bytes = text.toBytes();
    hash = Checksum.mix(hash, bytes.length);
    for (int start = 0; start < 16; start += 8) {
      long word = 0;
      for (int at = Math.min(start + 8, bytes.length) - 1; at >= start; at--) {
        word = word << 8 | bytes[at] & 0xff;
      }
      hash = Checksum.mix(hash, word);
    }
    return hash;
  }
}
