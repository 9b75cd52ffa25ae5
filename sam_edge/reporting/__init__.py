"""Pieces that every report shares: HTML pages, plots, tables, versions, names."""
