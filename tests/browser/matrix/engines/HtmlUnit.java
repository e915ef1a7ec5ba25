import com.gargoylesoftware.htmlunit.BrowserVersion;
import com.gargoylesoftware.htmlunit.WebClient;

/** Opens one page in HtmlUnit as the browser that is named, and lets its scripts run. */
public class HtmlUnit {
    public static void main(String[] args) throws Exception {
        BrowserVersion version = (BrowserVersion) BrowserVersion.class.getField(args[0]).get(null);
        WebClient client = new WebClient(version);
        client.getOptions().setThrowExceptionOnScriptError(args.length > 2);
        client.getOptions().setThrowExceptionOnFailingStatusCode(false);
        client.getOptions().setTimeout(60000);
        client.getPage(args[1]);
        while (true) {
            client.waitForBackgroundJavaScript(60000);
            Thread.sleep(100);
        }
    }
}
