import java.text.ParseException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A reader of JSON (RFC 8259). Java had none of its own when applets were written, and an archive that every
 * visitor downloads is best kept small.
 */
public final class Json {
    /** How deep {@link #parse} goes. It calls itself for each level, and the stack of a thread is small. */
    public static final int MAX_DEPTH = 256;

    private final String text;
    private int pos;

    private Json(String text) {
        this.text = text;
    }

    /**
     * A whole text as a value: a Map, a List, a String, a {@link Num}, a Boolean or null. If a key occurs
     * twice, the last one counts.
     */
    public static Object parse(String text) throws ParseException {
        Json json = new Json(text);
        Object value = json.value(MAX_DEPTH);
        json.end();
        return value;
    }

    /**
     * The members of an object, each value as the text it was written as. The values are checked but not built,
     * at any depth: the server passes on what was published, however deep it is nested.
     */
    public static Map<String, String> members(String text) throws ParseException {
        Json json = new Json(text);
        Map<String, String> members = new LinkedHashMap<String, String>();
        json.space();
        json.expect('{');
        json.space();
        if (json.peek() == '}') {
            json.pos++;
        } else {
            do {
                String key = json.key();
                json.space();
                int from = json.pos;
                json.skip();
                members.put(key, text.substring(from, json.pos));
            } while (json.another('}'));
        }
        json.end();
        return members;
    }

    /**
     * A JSON text that fits on one line. Valid JSON has line breaks only between its tokens. It has half of a surrogate
     * pair, which UTF-8 cannot encode, only within its strings.
     */
    public static String line(String text) throws ParseException {
        Json json = new Json(text);
        json.skip();
        json.end();
        StringBuilder out = new StringBuilder(text.length());
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (isHalf(text, i)) {
                escape(out, c);
            } else {
                out.append(c == '\n' || c == '\r' ? ' ' : c);
            }
        }
        return out.toString();
    }

    /** A text as a JSON string. UTF-8 cannot encode half of a surrogate pair, so it is written as an escape. */
    public static String quote(String text) {
        StringBuilder out = new StringBuilder(text.length() + 2);
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ' || isHalf(text, i)) {
                escape(out, c);
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }

    private static void escape(StringBuilder out, char c) {
        out.append("\\u").append(Integer.toHexString(0x10000 | c).substring(1));
    }

    private static boolean isHalf(String text, int i) {
        char c = text.charAt(i);
        if (Character.isHighSurrogate(c)) {
            return i + 1 == text.length() || !Character.isLowSurrogate(text.charAt(i + 1));
        }
        return Character.isLowSurrogate(c) && (i == 0 || !Character.isHighSurrogate(text.charAt(i - 1)));
    }

    private Object value(int depth) throws ParseException {
        space();
        int c = peek();
        if (c == '"') {
            return string();
        }
        if (c != '{' && c != '[') {
            return scalar();
        }
        if (depth == 0) {
            throw wrong("nested deeper than " + MAX_DEPTH);
        }
        pos++;
        space();
        if (c == '[') {
            List<Object> list = new ArrayList<Object>();
            if (peek() == ']') {
                pos++;
            } else {
                do {
                    list.add(value(depth - 1));
                } while (another(']'));
            }
            return list;
        }
        Map<String, Object> map = new LinkedHashMap<String, Object>();
        if (peek() == '}') {
            pos++;
        } else {
            do {
                String key = key();
                map.put(key, value(depth - 1));
            } while (another('}'));
        }
        return map;
    }

    /** Passes over a value with a list of the brackets that are open, where value() would use the stack. */
    private void skip() throws ParseException {
        StringBuilder open = new StringBuilder();
        do {
            space();
            int c = peek();
            if (c == '{' || c == '[') {
                char close = c == '{' ? '}' : ']';
                pos++;
                space();
                if (peek() != close) {
                    open.append(close);
                    if (c == '{') {
                        key();
                    }
                    continue;
                }
                pos++;
            } else if (c == '"') {
                string();
            } else {
                scalar();
            }
            // After a value: close the brackets that end here, up to a comma.
            while (open.length() > 0) {
                char close = open.charAt(open.length() - 1);
                if (another(close)) {
                    if (close == '}') {
                        key();
                    }
                    break;
                }
                open.setLength(open.length() - 1);
            }
        } while (open.length() > 0);
    }

    private String key() throws ParseException {
        space();
        if (peek() != '"') {
            throw wrong("a key expected");
        }
        String key = string();
        space();
        expect(':');
        return key;
    }

    /** After an element: true if a comma follows, false if the closing bracket does. */
    private boolean another(char close) throws ParseException {
        space();
        if (peek() == ',') {
            pos++;
            return true;
        }
        expect(close);
        return false;
    }

    private String string() throws ParseException {
        pos++;
        StringBuilder out = new StringBuilder();
        for (;;) {
            int c = peek();
            if (c == -1) {
                throw wrong("a string without an end");
            }
            if (c < ' ') {
                throw wrong("a control character in a string");
            }
            pos++;
            if (c == '"') {
                return out.toString();
            }
            out.append(c == '\\' ? escape() : (char) c);
        }
    }

    /** A pair of surrogates is two escapes, and each of them is one Java char. */
    private char escape() throws ParseException {
        int c = peek();
        pos++;
        switch (c) {
            case '"': case '\\': case '/': return (char) c;
            case 'b': return '\b';
            case 'f': return '\f';
            case 'n': return '\n';
            case 'r': return '\r';
            case 't': return '\t';
            case 'u': break;
            default:
                pos--;
                throw wrong("no such escape");
        }
        int code = 0;
        for (int i = 0; i < 4; i++) {
            // Character.digit would take digits of other scripts, too.
            int digit = "0123456789abcdefABCDEF".indexOf(peek());
            if (digit < 0) {
                throw wrong("four hexadecimal digits expected");
            }
            code = code * 16 + (digit < 16 ? digit : digit - 6);
            pos++;
        }
        return (char) code;
    }

    private Object scalar() throws ParseException {
        int c = peek();
        if (c == '-' || isDigit(c)) {
            return number();
        }
        if (word("true")) {
            return Boolean.TRUE;
        }
        if (word("false")) {
            return Boolean.FALSE;
        }
        if (word("null")) {
            return null;
        }
        throw wrong("a value expected");
    }

    private boolean word(String word) {
        if (!text.startsWith(word, pos)) {
            return false;
        }
        pos += word.length();
        return true;
    }

    private Num number() throws ParseException {
        int from = pos;
        if (peek() == '-') {
            pos++;
        }
        if (peek() == '0') {
            pos++;
        } else {
            digits();
        }
        if (peek() == '.') {
            pos++;
            digits();
        }
        if (peek() == 'e' || peek() == 'E') {
            pos++;
            if (peek() == '+' || peek() == '-') {
                pos++;
            }
            digits();
        }
        return new Num(text.substring(from, pos));
    }

    private void digits() throws ParseException {
        if (!isDigit(peek())) {
            throw wrong("a digit expected");
        }
        while (isDigit(peek())) {
            pos++;
        }
    }

    private static boolean isDigit(int c) {
        return c >= '0' && c <= '9';
    }

    private void space() {
        while (" \t\n\r".indexOf(peek()) >= 0) {
            pos++;
        }
    }

    private int peek() {
        return pos < text.length() ? text.charAt(pos) : -1;
    }

    private void expect(char wanted) throws ParseException {
        if (peek() != wanted) {
            throw wrong("'" + wanted + "' expected");
        }
        pos++;
    }

    private void end() throws ParseException {
        space();
        if (pos < text.length()) {
            throw wrong("something behind the value");
        }
    }

    private ParseException wrong(String what) {
        return new ParseException("not JSON: " + what + " at character " + pos, pos);
    }

    /** A number as it was written: 1.0 stays 1.0, and no digit is lost. */
    public static final class Num extends Number {
        private static final long serialVersionUID = 1L;
        private final String text;

        Num(String text) {
            this.text = text;
        }

        public String toString() {
            return text;
        }

        public boolean equals(Object other) {
            return other instanceof Num && text.equals(((Num) other).text);
        }

        public int hashCode() {
            return text.hashCode();
        }

        public double doubleValue() {
            return Double.parseDouble(text);
        }

        public float floatValue() {
            return (float) doubleValue();
        }

        public long longValue() {
            try {
                return Long.parseLong(text);
            } catch (NumberFormatException e) {
                // A fraction, an exponent, or too large: as Java casts a double.
                return (long) doubleValue();
            }
        }

        public int intValue() {
            return (int) Math.max(Integer.MIN_VALUE, Math.min(Integer.MAX_VALUE, longValue()));
        }
    }
}
