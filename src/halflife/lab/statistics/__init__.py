"""What the records of a sweep may be said to show.

    records -> surface -> choose (selection seeds) -> finalists -> fresh seeds -> verdict

`surface` lays settings out, `selection` chooses among them, `closeness` says what the noise leaves
open and where a grid should grow, `confirmation` judges the finalists on fresh seeds, `analysis`
holds all of it and `sentence` says it. Pure functions of records and meta data.
"""
