import java.text.ParseException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The reader of JSON. */
public class JsonTest {
    private static int checks;

    public static void main(String[] args) throws Exception {
        sound("\"\"", "");
        sound(" \t\r\n\"a\" \t\r\n", "a");
        sound("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t");
        sound("\"\\u00e9\\u00E9\\uD83D\\ude00\"", "\u00e9\u00e9\ud83d\ude00");
        sound("\"\\ud800\"", "\ud800");
        sound("\"\\u0000\"", "\u0000");
        sound("\"\u2028\u007f\"", "\u2028\u007f");
        sound("true", Boolean.TRUE);
        sound("false", Boolean.FALSE);
        sound("null", null);
        sound("[]", new ArrayList<Object>());
        sound("[ ]", new ArrayList<Object>());
        sound("[1,[\"b\"] , null]", Arrays.asList(new Json.Num("1"), Arrays.asList("b"), null));
        sound("{}", new LinkedHashMap<String, Object>());
        Map<String, Object> map = new LinkedHashMap<String, Object>();
        map.put("", new Json.Num("1.0"));
        map.put("a", new LinkedHashMap<String, Object>());
        sound("{ \"\" : 1.0 , \"\\u0061\":2, \"a\" : { } }", map);
        for (String number : new String[] {"0", "-0", "1.0", "10", "-1.50e+07", "1E400", "0.1", "1e-9",
                "123456789012345678901234567890"}) {
            sound(number, new Json.Num(number));
        }

        for (String wrong : new String[] {"", " ", "[", "]", "{", "}", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1}", "{\"a\"}",
                "{\"a\":}", "{\"a\":1,}", "{a:1}", "{\"a\":1 \"b\":2}", "{1:2}", "{\"a\":1]", "\"", "\"a", "\"\\", "\"\\\"",
                "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\u\u0661\u0661\u0661\u0661\"", "\"\n\"", "\"\t\"", "'a'", "01",
                "-", "+1", "1.", ".1", "1e", "1e+", "0x1", "- 1", "NaN", "nul", "nulll", "True", "1 1", "[]]", "\u00a01", "\ufeff1",
                "\u0661"}) {
            refused(wrong);
        }

        equal(deep(Json.MAX_DEPTH), Json.parse(deep(Json.MAX_DEPTH)).toString());
        try {
            Json.parse(deep(Json.MAX_DEPTH + 1));
            throw new AssertionError("nesting has no limit");
        } catch (ParseException e) {
            checks++;
        }
        String deepest = deep(200000);
        equal(deepest, Json.members("{\"data\":" + deepest + "}").get("data"));

        equal("{n= 1.0, b=[{\"x\": [ ]}, \"]\\\"\"]}".replace("= ", "="),
                Json.members(" {\"n\": 1.0 ,\"b\":[{\"x\": [ ]}, \"]\\\"\"] } ").toString());
        equal("{}", Json.members("{ }").toString());
        equal("{a=2}", Json.members("{\"a\":1,\"a\":2}").toString());

        equal("\"\\\"\\\\\\u000a\u00e9\ud83d\ude00\\ud83d\"", Json.quote("\"\\\n\u00e9\ud83d\ude00\ud83d"));
        equal("\"\\ude00\\ud83d\"", Json.quote("\ude00\ud83d"));
        equal("[1,  \"\\ud800\"]", Json.line("[1,\r\n\"\ud800\"]"));
        try {
            Json.line("1,\"exclude\":2");
            throw new AssertionError("two values where one may stand");
        } catch (ParseException e) {
            checks++;
        }

        equal(Long.MAX_VALUE, new Json.Num("9223372036854775807").longValue());
        equal(Long.MAX_VALUE, new Json.Num("9223372036854775808").longValue());
        equal(12L, new Json.Num("12.9").longValue());
        equal(Integer.MAX_VALUE, new Json.Num("4294967296").intValue());
        System.out.println(checks + " checks");
    }

    private static void sound(String text, Object wanted) throws ParseException {
        equal(wanted, Json.parse(text));
        equal(text.trim(), Json.members("{\"data\":" + text.trim() + "}").get("data"));
    }

    private static void refused(String text) {
        List<String> taken = new ArrayList<String>();
        try {
            Json.parse(text);
            taken.add("parse");
        } catch (ParseException e) {
            checks++;
        }
        try {
            Json.line(text);
            taken.add("line");
        } catch (ParseException e) {
            checks++;
        }
        if (!taken.isEmpty()) {
            throw new AssertionError(taken + " took " + text);
        }
    }

    private static String deep(int levels) {
        char[] text = new char[2 * levels];
        Arrays.fill(text, 0, levels, '[');
        Arrays.fill(text, levels, 2 * levels, ']');
        return new String(text);
    }

    private static void equal(Object wanted, Object got) {
        if (wanted == null ? got != null : !wanted.equals(got)) {
            throw new AssertionError("wanted " + wanted + ", got " + got);
        }
        checks++;
    }
}
