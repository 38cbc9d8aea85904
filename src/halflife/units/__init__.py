"""Weight decay in units a person can reason about, and in those of papers and libraries."""
