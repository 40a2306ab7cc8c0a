"""Figures and the page: everything a study found out, in one HTML file that works offline.

`ReportData` (in `titrant.report.data`) is all that the page shows; `titrant.report.page.render` turns it into text.
Altair and Jinja2 are imported when a page is rendered, not when the records are.
"""
