"""Reporting: what all reports share, such as HTML pages, plots, tables, versions and names."""
