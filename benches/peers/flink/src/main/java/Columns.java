import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.LongBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;

/**
 * Rows out of files of a column each, little-endian, that are mapped into memory: {@code NAME.i64} for numbers and for times, in
 * microseconds; {@code NAME.f64}; {@code NAME.bytes} for texts, one after the other, with {@code NAME.i64} for where each ends.
 *
 * <p>Columns of a nested row are named {@code OUTER.NAME}; the n-th nested row is null but where {@code event_type} is n. A column that has
 * no file is null, which is for those that no query reads.
 *
 * <p>Invariant: value {@code n} of every column belongs to row {@code n}. The row that is handed out is the same object every time.
 */
final class Columns {
  private interface Column {
    Object at(int row);
  }

  private final Path folder;
  private final Column[] columns;
  private final GenericRowData row;
  private final int rows;

  Columns(Path folder, RowType type) {
    this(folder, "", type);
  }

  private Columns(Path folder, String prefix, RowType type) {
    this.folder = folder;
    List<Column> found = new ArrayList<>();
    int nested = 0;
    int length = 0;
    for (RowType.RowField field : type.getFields()) {
      String name = prefix + field.getName();
      if (field.getType() instanceof RowType inner) {
        found.add(ofKind(nested++, new Columns(folder, name + ".", inner)));
      } else {
        found.add(column(name, field.getType()));
        length = Math.max(length, length(name));
      }
    }
    columns = found.toArray(Column[]::new);
    row = new GenericRowData(columns.length);
    rows = length;
  }

  /** How many rows there are. */
  int rows() {
    return rows;
  }

  /** A row, until the next one is asked for. */
  RowData at(int number) {
    for (int column = 0; column < columns.length; column++) {
      row.setField(column, columns[column].at(number));
    }
    return row;
  }

  private Column ofKind(int kind, Columns inner) {
    LongBuffer kinds = map("event_type.i64").asLongBuffer();
    return row -> kinds.get(row) == kind ? inner.at(row) : null;
  }

  private Column column(String name, LogicalType type) {
    if (length(name) == 0) {
      return row -> null;
    }
    return switch (type.getTypeRoot()) {
      case BIGINT -> {
        LongBuffer values = map(name + ".i64").asLongBuffer();
        yield row -> values.get(row);
      }
      case INTEGER -> {
        LongBuffer values = map(name + ".i64").asLongBuffer();
        yield row -> (int) values.get(row);
      }
      case DOUBLE -> {
        DoubleBuffer values = map(name + ".f64").asDoubleBuffer();
        yield row -> values.get(row);
      }
      case TIMESTAMP_WITHOUT_TIME_ZONE -> {
        LongBuffer micros = map(name + ".i64").asLongBuffer();
        yield row -> TimestampData.fromEpochMillis(Math.floorDiv(micros.get(row), 1_000));
      }
      case VARCHAR -> text(map(name + ".i64").asLongBuffer(), map(name + ".bytes"));
      default -> throw new IllegalArgumentException("column " + name + " is of type " + type + ", for which there is no file");
    };
  }

  private static Column text(LongBuffer ends, ByteBuffer all) {
    return row -> {
      int start = row == 0 ? 0 : (int) ends.get(row - 1);
      byte[] bytes = new byte[(int) ends.get(row) - start];
      all.get(start, bytes);
      return StringData.fromBytes(bytes);
    };
  }

  /** Rows that the files of a column have: none where there is no file. */
  private int length(String name) {
    for (String suffix : List.of(".i64", ".f64")) {
      Path file = folder.resolve(name + suffix);
      if (Files.exists(file)) {
        return (int) (file.toFile().length() / Long.BYTES);
      }
    }
    return 0;
  }

  private ByteBuffer map(String name) {
    try (FileChannel file = FileChannel.open(folder.resolve(name))) {
      return file.map(FileChannel.MapMode.READ_ONLY, 0, file.size()).order(ByteOrder.LITTLE_ENDIAN);
    } catch (IOException error) {
      throw new UncheckedIOException("the rows in " + folder + " cannot be read", error);
    }
  }
}
