"""Photos in, pictures out, and the coordinates in between: photo, frame, masks."""
