import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** The client, against a server that says what a real one seldom does; and publishing, against the real one. */
public class ClientTest implements LongtailListener {
    private static final String HELLO =
            "{\"type\":\"hello\",\"cursor\":\"C0\",\"client\":\"me\",\"transport\":\"tcp\",\"heartbeat\":1}\n";

    private final BlockingQueue<String> told = new LinkedBlockingQueue<String>();

    public static void main(String[] args) throws Exception {
        byeWithRetryIsObeyed();
        byeWithoutRetryIsTheEnd();
        refusedSubscriptionIsTheEnd();
        passingErrorIsNot();
        lineThatIsTooLongIsTheEnd();
        whatIsNotUtf8IsNotTaken();
        volatileMessageAndUnknownType();
        silenceIsDeath();
        pausesDouble();
        publishing(Integer.parseInt(args[0]));
        System.out.println("10 tests");
    }

    private static void byeWithRetryIsObeyed() throws Exception {
        Server server = new Server();
        ClientTest test = new ClientTest();
        Longtail client = test.client(server);
        Socket socket = server.accept("\"cursor\":\"latest\"}");
        say(socket, HELLO + "{\"id\":\"C1\",\"channel\":\"todo\",\"event\":\"e\",\"data\":1}\n"
                + "{\"type\":\"bye\",\"code\":4001,\"reason\":\"drain\",\"retry\":1234,\"cursor\":\"C2\"}\n");
        long began = System.nanoTime();
        test.expect("open C0");
        test.expect("message C1 e 1");
        test.expect("closed bye 4001: drain 1234");
        server.accept("\"cursor\":\"C2\",\"client\":\"me\"}");
        long millis = (System.nanoTime() - began) / 1000000;
        check(millis >= 1200 && millis < 5000, "came back after " + millis + " ms, not after 1234");
        client.close();
    }

    private static void byeWithoutRetryIsTheEnd() throws Exception {
        Server server = new Server();
        ClientTest test = new ClientTest();
        test.client(server);
        say(server.accept("todo"), HELLO + "{\"type\":\"bye\",\"code\":4003,\"reason\":\"revoked\",\"cursor\":\"C1\"}\n");
        test.expect("open C0");
        test.expect("closed bye 4003: revoked -1");
    }

    private static void refusedSubscriptionIsTheEnd() throws Exception {
        Server server = new Server();
        ClientTest test = new ClientTest();
        test.client(server);
        say(server.accept("todo"), "{\"type\":\"error\",\"ref\":\"subscribe\",\"code\":\"forbidden\",\"message\":\"no\"}\n");
        test.expect("closed forbidden: no -1");
    }

    private static void passingErrorIsNot() throws Exception {
        Server server = new Server();
        ClientTest test = new ClientTest();
        Longtail client = test.client(server);
        say(server.accept("todo"), "{\"type\":\"error\",\"ref\":\"subscribe\",\"code\":\"not_ready\",\"message\":\"wait\"}\n");
        long again = test.closed("not_ready: wait");
        check(again >= 250 && again <= 500, "the first pause is " + again + " ms");
        server.accept("todo");
        client.close();
    }

    private static void lineThatIsTooLongIsTheEnd() throws Exception {
        Server server = new Server();
        ClientTest test = new ClientTest();
        test.client(server);
        Socket socket = server.accept("todo");
        say(socket, HELLO);
        try {
            byte[] much = new byte[64 * 1024];
            for (int i = 0; i < 1000; i++) {
                socket.getOutputStream().write(much);
            }
            throw new AssertionError("64 MB of one line were read");
        } catch (IOException e) {
            // As it should be: the client has hung up.
        }
        test.expect("open C0");
        test.expect("closed a line from the server is longer than 4194304 bytes -1");
    }

    private static void whatIsNotUtf8IsNotTaken() throws Exception {
        Server server = new Server();
        ClientTest test = new ClientTest();
        Longtail client = test.client(server);
        Socket socket = server.accept("todo");
        say(socket, HELLO);
        socket.getOutputStream().write("{\"id\":\"C1\",\"channel\":\"todo\",\"event\":\"e\",\"data\":\"\u00ff\"}\n".getBytes("ISO-8859-1"));
        test.expect("open C0");
        test.closed("java.nio.charset.MalformedInputException: Input length = 1");
        server.accept("\"cursor\":\"C0\"");
        client.close();
    }

    private static void volatileMessageAndUnknownType() throws Exception {
        Server server = new Server();
        ClientTest test = new ClientTest();
        Longtail client = test.client(server);
        Socket socket = server.accept("todo");
        say(socket, HELLO + "\n \n{\"type\":\"weather\",\"cursor\":\"C8\"}\n{\"channel\":\"todo\",\"event\":\"e\",\"data\":[ 1 ],\"new\":{}}\r\n");
        test.expect("open C0");
        test.expect("message null e [ 1 ]");
        check(client.getCursor().equals("C0"), "the cursor has moved to " + client.getCursor());
        // Half a message, and the end.
        say(socket, "{\"id\":\"C1\",\"channel\":\"todo\",\"event\":\"e\",\"data\":1}");
        socket.close();
        test.closed("the connection was lost");
        server.accept("\"cursor\":\"C0\"");
        client.close();
    }

    private static void silenceIsDeath() throws Exception {
        Server server = new Server();
        ClientTest test = new ClientTest();
        Longtail client = test.client(server);
        Socket socket = server.accept("todo");
        say(socket, HELLO);
        test.expect("open C0");
        for (int i = 1; i <= 3; i++) {
            Thread.sleep(1500);
            say(socket, "{\"type\":\"heartbeat\",\"cursor\":\"H" + i + "\"}\n");
        }
        long began = System.nanoTime();
        test.closed("nothing was heard for too long");
        long millis = (System.nanoTime() - began) / 1000000;
        check(millis > 2300 && millis < 4000, "taken for dead after " + millis + " ms, not after 2500");
        server.accept("\"cursor\":\"H3\"");
        client.close();
    }

    private static void pausesDouble() throws Exception {
        Server server = new Server();
        ClientTest test = new ClientTest();
        Longtail client = test.client(server);
        for (int longest = 500; longest <= 2000; longest *= 2) {
            server.accept("todo").close();
            long again = test.closed(null);
            check(again >= longest / 2 && again <= longest, "a pause of " + again + " ms where at most " + longest + " are due");
        }
        client.close();
    }

    private static void publishing(int port) throws Exception {
        ClientTest test = new ClientTest();
        Longtail client = new Longtail("127.0.0.1", port, new String[] {"java"}, "latest", test);
        try {
            client.publish("java", null, "1", null, 1000);
            throw new AssertionError("published without a connection");
        } catch (IOException e) {
            check("not connected".equals(e.getMessage()), e.toString());
        }
        client.start();
        String open = test.told.poll(10, TimeUnit.SECONDS);
        check(open != null && open.startsWith("open "), "instead of open: " + open);
        String id = client.publish("java", "said", "{\"a\":\n[1.0, \"\u00e9\ud83d\ude00\"]}", "k1", 10000);
        test.expect("message " + id + " said {\"a\": [1.0, \"\u00e9\ud83d\ude00\"]}");
        check(id.equals(client.publish("java", "said", "2", "k1", 10000)), "the key did not hold");
        try {
            client.publish("java", "hello", "1", null, 10000);
            throw new AssertionError("a reserved event was published");
        } catch (IOException e) {
            check(e.getMessage().startsWith("bad_event: "), e.toString());
        }
        // An error of a publication leaves the connection alone.
        id = client.publish("java", null, "null", null, 10000);
        test.expect("message " + id + " message null");
        client.close();
    }

    private Longtail client(Server server) {
        Longtail client = new Longtail("127.0.0.1", server.port(), new String[] {"todo"}, "latest", this);
        client.start();
        return client;
    }

    public void open(String cursor) {
        told.add("open " + cursor);
    }

    public void message(LongtailMessage message) {
        told.add("message " + message.getId() + " " + message.getEvent() + " " + message.getData());
    }

    public void gap(String from, String cursor) {
        told.add("gap " + from + " " + cursor);
    }

    public void closed(String why, long again) {
        told.add("closed " + why + " " + again);
    }

    private void expect(String wanted) throws InterruptedException {
        String got = told.poll(10, TimeUnit.SECONDS);
        check(wanted.equals(got), "wanted: " + wanted + "; got: " + got);
    }

    /** Waits for the end of a connection, and answers after what pause the client comes back. */
    private long closed(String why) throws InterruptedException {
        String got = told.poll(10, TimeUnit.SECONDS);
        check(got != null && got.startsWith("closed " + (why == null ? "" : why + " ")), "wanted: closed " + why + "; got: " + got);
        return Long.parseLong(got.substring(got.lastIndexOf(' ') + 1));
    }

    private static void say(Socket socket, String text) throws IOException {
        OutputStream out = socket.getOutputStream();
        out.write(text.getBytes("UTF-8"));
        out.flush();
    }

    private static void check(boolean right, String otherwise) {
        if (!right) {
            throw new AssertionError(otherwise);
        }
    }

    private static final class Server {
        private final ServerSocket listening;

        Server() throws IOException {
            listening = new ServerSocket(0, 5, InetAddress.getByName("127.0.0.1"));
            listening.setSoTimeout(10000);
        }

        int port() {
            return listening.getLocalPort();
        }

        /** The next connection, whose first line has to contain the text. */
        Socket accept(String wanted) throws IOException {
            Socket socket = listening.accept();
            socket.setSoTimeout(10000);
            String line = new BufferedReader(new InputStreamReader(socket.getInputStream(), "UTF-8")).readLine();
            check(line != null && line.startsWith("{\"type\":\"subscribe\",") && line.contains(wanted),
                    "no subscribe with " + wanted + " in it: " + line);
            return socket;
        }
    }
}
