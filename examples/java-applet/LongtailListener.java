/** Gets what the client receives. The client makes all calls one after the other, on its own thread. */
public interface LongtailListener {
    /** The server has said hello. Messages that were missed while there was no connection come next. */
    void open(String cursor);

    void message(LongtailMessage message);

    /** Something behind the cursor `from` may be lost. Fetch the whole state again if that matters; reading goes on. */
    void gap(String from, String cursor);

    /**
     * A connection has ended, or could not be made.
     *
     * @param again milliseconds until the next try, or -1 if there will be none
     */
    void closed(String why, long again);
}
