"""The document of `tledge bench` for others than the terminal: JUnit XML, Markdown and a page; and of many, over time.

All read the document as its JSON is, so that what an older or newer tledge measured, or left out, is no trouble.
"""

from tledge.report.benches.history_page import render as history_page
from tledge.report.benches.junit import render as junit
from tledge.report.benches.markdown import render as markdown
from tledge.report.benches.page import render as page

__all__ = ["history_page", "junit", "markdown", "page"]
