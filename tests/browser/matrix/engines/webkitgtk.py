# Opens one page in WebKitGTK and leaves it open.
import sys
import gi

gi.require_version("Gtk", "3.0")
gi.require_version("WebKit2", "4.1")
from gi.repository import Gtk, WebKit2

window = Gtk.Window()
window.set_default_size(800, 600)
view = WebKit2.WebView.new_with_context(WebKit2.WebContext.new_ephemeral())
view.get_settings().set_enable_write_console_messages_to_stdout(True)
window.add(view)
view.load_uri(sys.argv[1])
window.show_all()
Gtk.main()
