import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.text.ParseException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * A client of Longtail over raw TCP: one JSON object on each line, in both directions. It reconnects after every
 * lost connection and goes on from its cursor, so that nothing is lost and nothing comes twice.
 */
public class Longtail implements Runnable {
    /** The most bytes of a line: it bounds the memory that a server, or another program in its place, can make us use. */
    public static final int MAX_LINE = 4 * 1024 * 1024;

    private static final int CONNECT_MILLIS = 10000;
    /** The hello comes at once, but a server that is just starting waits up to 5 s for its log. */
    private static final int HELLO_MILLIS = 15000;
    private static final int FIRST_PAUSE = 500;
    private static final int LONGEST_PAUSE = 30000;
    /** Errors that may pass. Any other error would be repeated for the same subscription. */
    private static final List<String> PASSING = Arrays.asList("rate_limited", "too_many_connections", "not_ready",
            "log_unavailable", "outcome_unknown");

    private final String host;
    private final int port;
    private final String[] channels;
    private final LongtailListener listener;
    private final Random random = new Random();

    /** Held while a command is written. It is not `this`, so that close() can end a write that hangs. */
    private final Object writing = new Object();
    private final Map<String, Answer> waiting = new HashMap<String, Answer>();
    private Thread thread;
    private Socket socket;
    private boolean subscribed;
    private boolean closed;
    private String cursor;
    private String client;
    private int refs;

    /** How a connection ended. */
    private static final class End {
        static final long BACK_OFF = -2;
        static final long NEVER = -1;
        final String why;
        final long again;

        End(String why, long again) {
            this.why = why;
            this.again = again;
        }
    }

    /** What publish() waits for. */
    private static final class Answer {
        boolean there;
        String id;
        String wrong;
    }

    /**
     * @param cursor where to begin: "latest", "earliest", or what {@link #getCursor} gave before
     */
    public Longtail(String host, int port, String[] channels, String cursor, LongtailListener listener) {
        this.host = host;
        this.port = port;
        this.channels = channels.clone();
        this.cursor = cursor;
        this.listener = listener;
    }

    /** Connects, on a thread of its own. The thread does not keep a program alive. */
    public synchronized void start() {
        if (thread != null) {
            throw new IllegalStateException("started before; make another Longtail with getCursor()");
        }
        thread = new Thread(this, "longtail " + host + ":" + port);
        thread.setDaemon(true);
        thread.start();
    }

    /** Ends it for good. The listener may still be in the call that it is in, and is not called after it. */
    public synchronized void close() {
        closed = true;
        shut();
        notifyAll();
    }

    /** Everything up to here was given to the listener, or is being given. Another client can go on from it. */
    public synchronized String getCursor() {
        return cursor;
    }

    /**
     * Publishes, and waits until the log holds it.
     *
     * @param event the event's name, or null for "message"
     * @param data the payload, as JSON
     * @param key an idempotency key, or null. A caller needs one to repeat a publication that failed
     * @return the message's id
     * @throws IOException if there is no connection, or it was refused, or no answer came; in that last case it may
     *     have been published all the same
     */
    public String publish(String channel, String event, String data, String key, long millis)
            throws IOException, ParseException, InterruptedException {
        String payload = Json.line(data);
        Answer answer = new Answer();
        Socket to;
        String ref;
        synchronized (this) {
            if (Thread.currentThread() == thread) {
                throw new IllegalStateException("publish() in a listener would wait for itself");
            }
            if (!subscribed) {
                throw new IOException("not connected");
            }
            to = socket;
            ref = String.valueOf(++refs);
            waiting.put(ref, answer);
        }
        try {
            StringBuilder line = new StringBuilder("{\"type\":\"publish\",\"ref\":").append(ref);
            line.append(",\"channel\":").append(Json.quote(channel));
            if (event != null) {
                line.append(",\"event\":").append(Json.quote(event));
            }
            if (key != null) {
                line.append(",\"key\":").append(Json.quote(key));
            }
            line.append(",\"data\":").append(payload).append('}');
            write(to, line.toString());
            long until = System.nanoTime() + millis * 1000000L;
            synchronized (this) {
                while (!answer.there) {
                    long left = (until - System.nanoTime() + 999999L) / 1000000L;
                    if (left <= 0) {
                        throw new IOException("no answer in " + millis + " ms");
                    }
                    wait(left);
                }
            }
            if (answer.wrong != null) {
                throw new IOException(answer.wrong);
            }
            return answer.id;
        } finally {
            synchronized (this) {
                waiting.remove(ref);
            }
        }
    }

    public void run() {
        int failures = 0;
        try {
            while (!isClosed()) {
                // After an object has arrived, a failure is the first in a row.
                boolean[] proven = {false};
                End end;
                try {
                    end = connection(proven);
                } catch (LineReader.TooLong e) {
                    // The same line would come again.
                    end = new End(e.getMessage(), End.NEVER);
                } catch (SocketTimeoutException e) {
                    end = new End("nothing was heard for too long", End.BACK_OFF);
                } catch (ParseException e) {
                    end = new End(e.getMessage(), End.BACK_OFF);
                } catch (IOException e) {
                    end = new End(e.toString(), End.BACK_OFF);
                } finally {
                    disconnected();
                }
                failures = proven[0] ? 1 : failures + 1;
                long again = end.again == End.BACK_OFF ? pause(failures) : end.again;
                if (isClosed()) {
                    return;
                }
                listener.closed(end.why, again);
                if (again == End.NEVER) {
                    return;
                }
                sleep(again);
            }
        } finally {
            // Also if a listener threw: publish() must report that there is no connection.
            close();
        }
    }

    /** One connection, from its beginning to its end. */
    private End connection(boolean[] proven) throws IOException, ParseException {
        Socket connecting = new Socket();
        synchronized (this) {
            if (closed) {
                return new End("closed", End.NEVER);
            }
            // Set before it is connected, so that close() does not have to wait for the connection.
            socket = connecting;
        }
        try {
            connecting.connect(new InetSocketAddress(host, port), CONNECT_MILLIS);
        } catch (SecurityException e) {
            return new End("the sandbox allows no connection to " + host + ", only to where the applet came from",
                    End.NEVER);
        }
        connecting.setTcpNoDelay(true);
        connecting.setSoTimeout(HELLO_MILLIS);
        write(connecting, subscribe());
        LineReader in = new LineReader(connecting.getInputStream(), MAX_LINE);
        String line;
        while ((line = in.readLine()) != null) {
            if (isClosed()) {
                break;
            }
            if (line.trim().length() == 0) {
                continue;
            }
            Map<String, String> object = Json.members(line);
            String type = text(object, "type");
            if (type == null) {
                message(object);
                proven[0] = true;
            } else if (type.equals("hello")) {
                hello(object, connecting);
            } else if (type.equals("heartbeat")) {
                advance(text(object, "cursor"));
                proven[0] = true;
            } else if (type.equals("gap")) {
                String to = text(object, "cursor");
                if (advance(to)) {
                    listener.gap(text(object, "from"), to);
                }
                proven[0] = true;
            } else if (type.equals("bye")) {
                advance(text(object, "cursor"));
                long retry = whole(object, "retry", End.NEVER);
                return new End("bye " + object.get("code") + ": " + text(object, "reason"), retry);
            } else if (type.equals("error")) {
                String code = text(object, "code");
                String why = code + ": " + text(object, "message");
                // An error with the ref of a publication ends only that.
                if (!answer(object.get("ref"), null, why)) {
                    // An error after the hello is not about the subscription.
                    return new End(why, isSubscribed() || PASSING.contains(code) ? End.BACK_OFF : End.NEVER);
                }
            } else if (type.equals("ack")) {
                // The id of our own message is not our cursor: messages that were published before it may still be
                // on their way to us.
                answer(object.get("ref"), text(object, "id"), null);
            }
            // Any other type belongs to a later version of the protocol.
        }
        return new End("the connection was lost", End.BACK_OFF);
    }

    private synchronized String subscribe() {
        StringBuilder line = new StringBuilder("{\"type\":\"subscribe\",\"ref\":\"subscribe\",\"channels\":[");
        for (int i = 0; i < channels.length; i++) {
            line.append(i == 0 ? "" : ",").append(Json.quote(channels[i]));
        }
        line.append("],\"cursor\":").append(Json.quote(cursor));
        if (client != null) {
            line.append(",\"client\":").append(Json.quote(client));
        }
        return line.append('}').toString();
    }

    private void hello(Map<String, String> hello, Socket from) throws IOException, ParseException {
        long heartbeat = Math.max(1, Math.min(3600, whole(hello, "heartbeat", 15)));
        from.setSoTimeout((int) (heartbeat * 2500));
        String at = text(hello, "cursor");
        synchronized (this) {
            client = text(hello, "client");
            subscribed = true;
        }
        if (advance(at)) {
            listener.open(at);
        }
    }

    private void message(Map<String, String> object) throws ParseException {
        String id = text(object, "id");
        String channel = text(object, "channel");
        String data = object.get("data");
        if (channel == null || data == null) {
            throw new ParseException("an object from the server has no type and is no message", 0);
        }
        LongtailMessage message = new LongtailMessage(id, channel, text(object, "event"), data);
        if (advance(id)) {
            listener.message(message);
        }
    }

    /**
     * Moves the cursor on, unless close() was called; returns whether to call the listener. Both happen in one step, so
     * that the cursor after close() is right after the last object that the listener got.
     */
    private synchronized boolean advance(String to) {
        // A volatile message has no id and moves no cursor.
        if (to != null && !closed) {
            cursor = to;
        }
        return !closed;
    }

    /** Whether a publish() waits for that answer, or has given up waiting. */
    private synchronized boolean answer(String ref, String id, String wrong) {
        Answer answer = waiting.get(ref);
        if (answer == null) {
            return ref != null && !ref.equals("\"subscribe\"") && !ref.equals("null");
        }
        answer.there = true;
        answer.id = id;
        answer.wrong = wrong;
        notifyAll();
        return true;
    }

    private synchronized void disconnected() {
        subscribed = false;
        shut();
        for (Answer answer : waiting.values()) {
            if (!answer.there) {
                answer.there = true;
                answer.wrong = "the connection was lost before the answer came";
            }
        }
        notifyAll();
    }

    /** Must be called with the lock of `this`. */
    private void shut() {
        if (socket != null) {
            try {
                socket.close();
            } catch (IOException e) {
                // It is closed all the same.
            }
            socket = null;
        }
    }

    private void write(Socket to, String line) throws IOException {
        byte[] bytes = (line + "\n").getBytes("UTF-8");
        synchronized (writing) {
            OutputStream out = to.getOutputStream();
            out.write(bytes);
            out.flush();
        }
    }

    private synchronized boolean isSubscribed() {
        return subscribed;
    }

    private synchronized boolean isClosed() {
        return closed;
    }

    /** Between half of it and all of it, so that many clients do not come back at the same moment. */
    private long pause(int failures) {
        int whole = Math.min(LONGEST_PAUSE, FIRST_PAUSE << Math.min(failures - 1, 6));
        return whole / 2 + random.nextInt(whole / 2 + 1);
    }

    private synchronized void sleep(long millis) {
        // The clock of nanoTime() does not jump when somebody sets the time.
        long until = System.nanoTime() + millis * 1000000L;
        long left = millis;
        while (!closed && left > 0) {
            try {
                wait(left);
            } catch (InterruptedException e) {
                close();
            }
            left = (until - System.nanoTime() + 999999L) / 1000000L;
        }
    }

    private static String text(Map<String, String> object, String key) throws ParseException {
        String json = object.get(key);
        if (json == null) {
            return null;
        }
        Object value = Json.parse(json);
        return value instanceof String ? (String) value : null;
    }

    private static long whole(Map<String, String> object, String key, long otherwise) throws ParseException {
        String json = object.get(key);
        Object value = json == null ? null : Json.parse(json);
        // A day bounds the sums that are done with it.
        return value instanceof Number ? Math.max(0, Math.min(86400000L, ((Number) value).longValue())) : otherwise;
    }
}
