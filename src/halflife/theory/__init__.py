"""What weight decay is predicted to do. Stands on the standard library and torch alone."""
