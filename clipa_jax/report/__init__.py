"""The report: one HTML file on one run or several, see docs/report.md."""
