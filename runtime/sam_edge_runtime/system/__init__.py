"""The machine: atomic writes of files and folders, cores, memory."""
