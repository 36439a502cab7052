"""Results -> one self-contained HTML page and PNG plots.

texts      user texts and numbers, made fit to be shown
tables     results as rows of cells
summary    the verdict and the key figures at the top
plots      results as figures, for the page (SVG) and as files (PNG)
page       the page itself: report.html, with its template, style and script
"""

from outweigh.report.page import DoubtfulPair, write_report

__all__ = ["DoubtfulPair", "write_report"]
