"""Benchmarking: tables and a page of the figures that `sam_edge_runtime.benchmark` measures.

| module | what |
|---|---|
| `tables` | latency, ratios, start-up and memory for a terminal |
| `page` | an HTML file with tables and plots |
"""
