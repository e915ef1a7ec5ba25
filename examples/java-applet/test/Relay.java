import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;

/**
 * Stands between a client and a server, and breaks connections: `java Relay PORT 100f 2000r 30s` lets 100 bytes of
 * the server through the first connection and ends it, lets 2000 through the second and resets it, lets 30 through
 * the third and then nothing more without ending it. All after these are left alone.
 */
public class Relay {
    public static void main(String[] args) throws IOException {
        int port = Integer.parseInt(args[0]);
        ServerSocket listening = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
        System.out.println("listening on " + listening.getLocalPort());
        for (int i = 1;; i++) {
            Socket client = listening.accept();
            final Socket server = new Socket("127.0.0.1", port);
            final Socket from = client;
            Thread up = new Thread() {
                public void run() {
                    try {
                        copy(from, server, Long.MAX_VALUE);
                        server.shutdownOutput();
                    } catch (IOException e) {
                        // The other direction has ended it.
                    }
                }
            };
            up.setDaemon(true);
            up.start();
            String how = i < args.length ? args[i] : Long.MAX_VALUE + "f";
            down(server, client, how);
        }
    }

    /** One connection at a time: a client has only one. */
    private static void down(Socket server, Socket client, String how) throws IOException {
        char kind = how.charAt(how.length() - 1);
        long bytes = Long.parseLong(how.substring(0, how.length() - 1));
        try {
            copy(server, client, bytes);
        } catch (IOException e) {
            // The client is gone, or the server.
        }
        System.out.println("cut " + how);
        server.close();
        if (kind == 's') {
            // Not closed: for the client it is only silent.
            return;
        }
        if (kind == 'r') {
            client.setSoLinger(true, 0);
        }
        client.close();
    }

    private static void copy(Socket from, Socket to, long bytes) throws IOException {
        InputStream in = from.getInputStream();
        OutputStream out = to.getOutputStream();
        byte[] chunk = new byte[8192];
        while (bytes > 0) {
            int n = in.read(chunk, 0, (int) Math.min(chunk.length, bytes));
            if (n < 0) {
                return;
            }
            out.write(chunk, 0, n);
            bytes -= n;
        }
    }
}
