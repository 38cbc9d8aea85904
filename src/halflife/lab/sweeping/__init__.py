"""Which trainings a sweep needs, in which order, and the loop that has them trained."""
