import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.io.UnsupportedEncodingException;

/**
 * The applet's client as a program: each message is a line of standard output, with tabs between its id, channel,
 * event and data. Changes of the connection go to standard error.
 */
public class Console implements LongtailListener {
    private static final int EX_USAGE = 64; // of sysexits.h

    private final PrintStream out;
    private boolean ended;

    Console() throws UnsupportedEncodingException {
        // System.out has the encoding of the machine.
        out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, "UTF-8");
    }

    public static void main(String[] args) throws Exception {
        int port = args.length < 3 ? 0 : port(args[1]);
        if (port == 0) {
            System.err.println("usage: java Console HOST PORT CHANNEL...");
            System.err.println("PORT is the raw TCP port of the server, 1 to 65535, as /info names it");
            System.exit(EX_USAGE);
        }
        String[] channels = new String[args.length - 2];
        System.arraycopy(args, 2, channels, 0, channels.length);
        Console console = new Console();
        new Longtail(args[0], port, channels, "latest", console).start();
        console.await();
        System.exit(1);
    }

    /** The port, or 0 if the text is not a port. */
    private static int port(String text) {
        try {
            int port = Integer.parseInt(text);
            return port >= 1 && port <= 65535 ? port : 0;
        } catch (NumberFormatException e) {
            return 0;
        }
    }

    private synchronized void await() throws InterruptedException {
        while (!ended) {
            wait();
        }
    }

    private synchronized void end() {
        ended = true;
        notifyAll();
    }

    public void open(String cursor) {
        System.err.println("open at " + cursor);
    }

    public void message(LongtailMessage message) {
        // An event has no control characters in it; data is last because it may have tabs.
        String id = message.getId() == null ? "-" : message.getId();
        out.print(id + "\t" + message.getChannel() + "\t" + message.getEvent() + "\t" + message.getData() + "\n");
        if (out.checkError()) {
            // The reader of standard output is gone. checkError() flushes, too.
            end();
        }
    }

    public void gap(String from, String cursor) {
        System.err.println("gap: something after " + from + " may be lost; going on at " + cursor);
    }

    public void closed(String why, long again) {
        System.err.println("closed: " + why + (again < 0 ? "; not coming back" : "; again in " + again + " ms"));
        if (again < 0) {
            end();
        }
    }
}
