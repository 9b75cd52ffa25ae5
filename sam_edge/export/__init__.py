"""The export pipeline: a variant and its weights in, a verified bundle out."""
