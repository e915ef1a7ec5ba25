/** Who is told of what comes. All calls are made one after the other on the client's own thread. */
public interface LongtailListener {
    /** The server has said hello. What was missed while there was no connection comes next. */
    void open(String cursor);

    void message(LongtailMessage message);

    /** Something behind the cursor `from` may be lost. Fetch the whole state anew if that matters; reading goes on. */
    void gap(String from, String cursor);

    /**
     * A connection has ended, or none came about.
     *
     * @param again milliseconds until the next try, or -1 if there will be none
     */
    void closed(String why, long again);
}
