"""Photos read, masks drawn and written, and the geometry between photo and model input."""
