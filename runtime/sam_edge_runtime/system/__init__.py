"""The machine: files written whole or not at all, cores, memory."""
