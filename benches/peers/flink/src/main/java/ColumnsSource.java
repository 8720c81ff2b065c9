import java.io.IOException;
import java.io.Serializable;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Iterator;
import java.util.List;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.api.connector.source.lib.util.IteratorSourceEnumerator;
import org.apache.flink.api.connector.source.lib.util.IteratorSourceReader;
import org.apache.flink.api.connector.source.lib.util.IteratorSourceSplit;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.util.InstantiationUtil;

/**
 * The bounded source of the connector {@code columns}: as many shares of the rows as there are subtasks. Batches are dealt out in turn,
 * as Tidemill's are, so that all subtasks come through event time together.
 */
final class ColumnsSource implements Source<RowData, ColumnsSource.Share, Collection<ColumnsSource.Share>> {
  /** Rows in a batch, as Tidemill's source has them. */
  private static final int BATCH_ROWS = 8_192;

  private final String folder;
  private final RowType type;

  ColumnsSource(String folder, RowType type) {
    this.folder = folder;
    this.type = type;
  }

  @Override
  public Boundedness getBoundedness() {
    return Boundedness.BOUNDED;
  }

  @Override
  public SourceReader<RowData, Share> createReader(SourceReaderContext context) {
    return new IteratorSourceReader<>(context);
  }

  @Override
  public SplitEnumerator<Share, Collection<Share>> createEnumerator(SplitEnumeratorContext<Share> context) {
    int batches = (new Columns(Path.of(folder), type).rows() + BATCH_ROWS - 1) / BATCH_ROWS;
    // A reader takes it for granted that a split has a row.
    int of = Math.min(context.currentParallelism(), batches);
    List<Share> shares = new ArrayList<>();
    for (int share = 0; share < of; share++) {
      shares.add(new Share(folder, type, share, of, 0));
    }
    return new IteratorSourceEnumerator<>(context, shares);
  }

  @Override
  public SplitEnumerator<Share, Collection<Share>> restoreEnumerator(
      SplitEnumeratorContext<Share> context, Collection<Share> left) {
    return new IteratorSourceEnumerator<>(context, left);
  }

  @Override
  public SimpleVersionedSerializer<Share> getSplitSerializer() {
    return new Serialized<>();
  }

  @Override
  public SimpleVersionedSerializer<Collection<Share>> getEnumeratorCheckpointSerializer() {
    return new Serialized<>();
  }

  /** Every {@code of}-th batch, but for the rows that have been read. */
  record Share(String folder, RowType type, int number, int of, int read)
      implements IteratorSourceSplit<RowData, Rows>, Serializable {
    @Override
    public String splitId() {
      return Integer.toString(number);
    }

    @Override
    public Rows getIterator() {
      return new Rows(this);
    }

    @Override
    public Share getUpdatedSplitForIterator(Rows rows) {
      return new Share(folder, type, number, of, rows.read);
    }
  }

  static final class Rows implements Iterator<RowData> {
    private final Columns columns;
    private final int rows;
    private final int skipped;
    private int read;
    private int next;

    Rows(Share share) {
      columns = new Columns(Path.of(share.folder), share.type);
      rows = columns.rows();
      skipped = (share.of - 1) * BATCH_ROWS;
      read = share.read;
      Stopwatch.start();
      next = (read / BATCH_ROWS * share.of + share.number) * BATCH_ROWS + read % BATCH_ROWS;
    }

    @Override
    public boolean hasNext() {
      return next < rows;
    }

    @Override
    public RowData next() {
      RowData row = columns.at(next);
      read++;
      next++;
      if (next % BATCH_ROWS == 0) {
        next += skipped;
      }
      return row;
    }
  }

  private static final class Serialized<T> implements SimpleVersionedSerializer<T> {
    @Override
    public int getVersion() {
      return 1;
    }

    @Override
    public byte[] serialize(T value) throws IOException {
      return InstantiationUtil.serializeObject(value);
    }

    @Override
    public T deserialize(int version, byte[] bytes) throws IOException {
      try {
        return InstantiationUtil.deserializeObject(bytes, ColumnsSource.class.getClassLoader());
      } catch (ClassNotFoundException error) {
        throw new IOException(error);
      }
    }
  }
}
