import java.text.ParseException;

/** One message of the log. */
public final class LongtailMessage {
    private final String id;
    private final String channel;
    private final String event;
    private final String data;

    LongtailMessage(String id, String channel, String event, String data) {
        this.id = id;
        this.channel = channel;
        this.event = event;
        this.data = data;
    }

    /** The id, which is also the cursor right behind the message; null for a volatile one. */
    public String getId() {
        return id;
    }

    public String getChannel() {
        return channel;
    }

    public String getEvent() {
        return event;
    }

    /** What was published, as the JSON text that came. */
    public String getData() {
        return data;
    }

    /** What was published, as {@link Json#parse} reads it. Only nesting that is too deep can make it throw. */
    public Object getValue() throws ParseException {
        return Json.parse(data);
    }
}
