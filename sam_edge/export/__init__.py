"""The export pipeline: a variant and its weights in, a verified bundle out; and the encoders of words (`clip`)."""
