"""One training: what it is handed, how it is called, and what it came to."""
