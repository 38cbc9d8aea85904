"""The lab: learning-rate x weight-decay landscapes of small models, in seconds on one machine.

`tasks` and `models` say what is trained, `training` with what budget. `trial` runs one model,
`ensemble` many at once, driven by the same rule objects as the optimizers. `axes` lays out the
grid in a currency common to all rules; `landscape` plans, trains with `workers`, and extends it;
`ledger` keeps every finished cell, and as `meta` what is known of the whole. `statistics`
says what may be said of them, and `report` shows it; both read nothing but the ledger.
"""
