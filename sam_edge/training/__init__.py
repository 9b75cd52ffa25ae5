"""Training as in the SAM paper: each rule a small function that cites its paragraph."""
