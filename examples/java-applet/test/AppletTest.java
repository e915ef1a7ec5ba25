import java.applet.AppletContext;
import java.applet.AppletStub;
import java.awt.Frame;
import java.net.URL;
import java.util.Arrays;

/** The applet in a window, with what a browser gave to it. Wants a screen, which may be Xvfb. */
@SuppressWarnings({"deprecation", "removal"}) // as in TodoApplet
public class AppletTest implements AppletStub {
    private final String port;

    AppletTest(String port) {
        this.port = port;
    }

    public static void main(String[] args) throws Exception {
        int status = 1;
        try {
            run(args);
            status = 0;
        } catch (Throwable e) {
            e.printStackTrace();
        }
        // The window's thread would keep the program alive.
        System.exit(status);
    }

    private static void run(String[] args) throws Exception {
        TodoApplet applet = new TodoApplet();
        applet.setStub(new AppletTest(args[0]));
        Frame window = new Frame("todo");
        window.add(applet);
        window.setSize(300, 200);
        applet.init();
        applet.start();
        window.setVisible(true);
        java.awt.List list = (java.awt.List) applet.getComponent(0);
        java.awt.Label status = (java.awt.Label) applet.getComponent(1);
        for (int i = 0; i < 100 && !status.getText().equals("connected"); i++) {
            Thread.sleep(100);
        }
        Longtail publisher = publisher(args[0]);
        publisher.publish("applet", "itemAdded", "{\"title\":\"Br\u00f6tchen\"}", null, 10000);
        publisher.publish("applet", "itemAdded", "\"a text\"", null, 10000);
        await(list, "[Br\u00f6tchen, a text]");
        // The page is left, and shown again.
        applet.stop();
        publisher.publish("applet", "itemAdded", "[1.0]", null, 10000);
        applet.start();
        await(list, "[Br\u00f6tchen, a text, [1.0]]");
        applet.stop();
        applet.destroy();
        System.out.println("the applet shows " + Arrays.asList(list.getItems()));
    }

    private static Longtail publisher(String port) throws Exception {
        final boolean[] open = {false};
        Longtail publisher = new Longtail("127.0.0.1", Integer.parseInt(port), new String[] {"applet"}, "latest",
                new LongtailListener() {
                    public void open(String cursor) {
                        synchronized (open) {
                            open[0] = true;
                            open.notifyAll();
                        }
                    }

                    public void message(LongtailMessage message) {
                    }

                    public void gap(String from, String cursor) {
                    }

                    public void closed(String why, long again) {
                    }
                });
        publisher.start();
        synchronized (open) {
            if (!open[0]) {
                open.wait(10000);
            }
        }
        return publisher;
    }

    private static void await(java.awt.List list, String wanted) throws InterruptedException {
        for (int i = 0; i < 100; i++) {
            if (Arrays.asList(list.getItems()).toString().equals(wanted)) {
                return;
            }
            Thread.sleep(100);
        }
        throw new AssertionError("the list shows " + Arrays.asList(list.getItems()) + " and not " + wanted);
    }

    public String getParameter(String name) {
        return name.equals("host") ? "127.0.0.1" : name.equals("port") ? port : name.equals("channel") ? "applet" : null;
    }

    public boolean isActive() {
        return true;
    }

    public URL getDocumentBase() {
        return null;
    }

    public URL getCodeBase() {
        return null;
    }

    public AppletContext getAppletContext() {
        return null;
    }

    public void appletResize(int width, int height) {
    }
}
