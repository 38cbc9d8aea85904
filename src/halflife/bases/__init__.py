"""What is known of a base optimizer: declared in advance, or found by running it."""
