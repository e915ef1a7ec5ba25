import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.Charset;

/**
 * Lines of UTF-8 that end with a line feed. BufferedReader does not work here: it has no limit, it takes the rest
 * before a broken connection for a line, and it replaces bytes that are not UTF-8.
 */
final class LineReader {
    /** A line that is over the limit. */
    static final class TooLong extends IOException {
        private static final long serialVersionUID = 1L;

        TooLong(int limit) {
            super("a line from the server is longer than " + limit + " bytes");
        }
    }

    private final InputStream in;
    private final int limit;
    private final byte[] chunk = new byte[8192];
    private int from;
    private int to;

    LineReader(InputStream in, int limit) {
        this.in = in;
        this.limit = limit;
    }

    /** The next line without its line feed; null at the end, also where the end is in the middle of a line. */
    String readLine() throws IOException {
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        for (;;) {
            int at = from;
            while (at < to && chunk[at] != '\n') {
                at++;
            }
            if (line.size() + (at - from) > limit) {
                throw new TooLong(limit);
            }
            line.write(chunk, from, at - from);
            if (at < to) {
                from = at + 1;
                // Called like this, a decoder throws at bytes that are not UTF-8.
                return Charset.forName("UTF-8").newDecoder()
                        .decode(ByteBuffer.wrap(line.toByteArray())).toString();
            }
            from = 0;
            to = Math.max(0, in.read(chunk));
            if (to == 0) {
                return null;
            }
        }
    }
}
