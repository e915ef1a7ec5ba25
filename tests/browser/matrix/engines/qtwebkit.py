# Opens one page in QtWebKit 5 and leaves it open.
import sys
from PyQt5.QtCore import QUrl
from PyQt5.QtWebKitWidgets import QWebPage, QWebView
from PyQt5.QtWidgets import QApplication


class Page(QWebPage):
    def javaScriptConsoleMessage(self, message, line, source):
        print(source, line, message, flush=True)


application = QApplication(sys.argv[:1])
view = QWebView()
view.setPage(Page())
view.load(QUrl(sys.argv[1]))
view.show()
sys.exit(application.exec_())
