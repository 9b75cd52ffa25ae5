"""What `sam-edge benchmark` shows: tables and a page of what `sam_edge_runtime.benchmark` measured.

| module | what |
|---|---|
| `names` | what bundles are called in tables |
| `tables` | latency, ratios, start-up and memory for a terminal |
| `page` | one HTML file with plots |
"""
