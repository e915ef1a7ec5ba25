import java.applet.Applet;
import java.awt.BorderLayout;
import java.awt.EventQueue;
import java.awt.Label;
import java.awt.List;

/** A list of what comes, as it comes. The parameters are host, port and channel. */
@SuppressWarnings({"deprecation", "removal"}) // Applet went out of use with Java 9
public class TodoApplet extends Applet implements LongtailListener {
    private static final long serialVersionUID = 1L;

    private final List list = new List();
    private final Label status = new Label();
    private transient Longtail longtail;
    /** Kept from stop() to start(), so that who leaves the page and comes back has missed nothing. */
    private String cursor = "latest";

    public void init() {
        setLayout(new BorderLayout());
        add(list, BorderLayout.CENTER);
        add(status, BorderLayout.SOUTH);
    }

    public void start() {
        String host = getParameter("host");
        if (host == null || host.length() == 0) {
            // The one host that the sandbox lets an applet connect to.
            host = getCodeBase().getHost();
        }
        String channel = getParameter("channel");
        int port;
        try {
            port = Integer.parseInt(getParameter("port"));
        } catch (NumberFormatException e) {
            port = -1;
        }
        if (port < 1 || port > 65535 || channel == null) {
            status.setText("the parameters port and channel are needed");
            return;
        }
        status.setText("connecting");
        longtail = new Longtail(host, port, new String[] {channel}, cursor, this);
        longtail.start();
    }

    public void stop() {
        if (longtail != null) {
            longtail.close();
            cursor = longtail.getCursor();
            longtail = null;
        }
    }

    // The client calls from its own thread. What is shown is changed on the one of AWT.

    public void open(String at) {
        say("connected");
    }

    public void message(LongtailMessage message) {
        show(TodoItems.line(message));
    }

    public void gap(String from, String to) {
        show("(something may be missing here)");
    }

    public void closed(String why, long again) {
        say(again < 0 ? why : why + "; connecting again");
    }

    private void show(final String line) {
        EventQueue.invokeLater(new Runnable() {
            public void run() {
                if (list.getItemCount() == TodoItems.MAX_ITEMS) {
                    list.remove(0);
                }
                list.add(line);
                list.makeVisible(list.getItemCount() - 1);
            }
        });
    }

    private void say(final String text) {
        EventQueue.invokeLater(new Runnable() {
            public void run() {
                status.setText(text);
            }
        });
    }
}
