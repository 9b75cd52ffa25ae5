"""Tables with figures: Markdown out of `results/*.json`, and the documents that show them.

    python -m benchmarks.tables                # fill every table of README.md and docs/
    python -m benchmarks.tables peers-nano     # print tables instead

A document holds a table between two markers, `<!-- table: NAME -->` and `<!-- end -->`. What stands between them is
replaced, so a figure is never typed by hand, and `tests/docs/test_tables.py` fails where a document differs. There is a
module for each benchmark, which prints its results with it.
"""
