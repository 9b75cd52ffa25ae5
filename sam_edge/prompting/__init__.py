"""Prompts: parsed from the command line, laid out on a grid, simulated from masks."""
