import java.text.ParseException;
import java.util.Map;

/** What the applet shows of a message. It has nothing of AWT in it, so that it runs without a screen. */
final class TodoItems {
    /** Lines that the list keeps. An applet lives as long as its page, and some pages stay open for weeks. */
    static final int MAX_ITEMS = 200;

    private TodoItems() {
    }

    /** The title of an item, or the payload itself where it has none. */
    static String line(LongtailMessage message) {
        Object value;
        try {
            value = message.getValue();
        } catch (ParseException e) {
            return message.getData();
        }
        if (value instanceof Map) {
            Object title = ((Map<?, ?>) value).get("title");
            if (title instanceof String) {
                return (String) title;
            }
        }
        return value instanceof String ? (String) value : message.getData();
    }
}
