"""A page to look at: one HTML file on one run or several, see docs/report.md."""
