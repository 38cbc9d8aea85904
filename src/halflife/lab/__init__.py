"""The lab: learning-rate x weight-decay landscapes of small models, in seconds on one machine.

    tasks, models   what is trained
    ensemble        many models at once, driven by the same rule objects as the optimizers
    axes            the grid: learning rates, and strengths in the rules' common currency
    ledger          finished cells, safe against a kill at any moment
    landscape       the plan: train what the ledger lacks, extend the grid where it must
    analysis        optimum, ridge, intervals
    report          one self-contained HTML page
"""
