"""Suites: many data sets and protocols of `sam-edge evaluate` in one run that can be resumed.

| file | what |
|---|---|
| `recipe` | the TOML file of a suite |
| `cells` | a suite divided into cells: one model, one data set, one protocol |
| `run` | runs the cells in processes and on hosts |
| `references` | published figures to set beside a run's own |
| `page` | `suite.html` and `results.json`, in the paper's order |
"""
