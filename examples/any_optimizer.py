"""A decay rule on an optimizer that exists already, and on a class of torch without one.

`attach` changes an optimizer in place and keeps its state; `decayed` makes a class.
"""

import torch

import halflife

weights = [torch.nn.Parameter(torch.ones(3))]

# An optimizer that some library built for us: from here on, its weight_decay is the fraction that
# a step at the peak lr removes, whatever the lr is.
theirs = torch.optim.AdamW(weights, lr=1e-3, weight_decay=1e-4)
optimizer = halflife.attach(theirs, "independent")
print(halflife.describe(optimizer))

# NAdam has no decoupled decay by default; here it has the corrected one, at a half-life.
NAdam = halflife.decayed(torch.optim.NAdam)
optimizer = NAdam(weights, lr=1e-3, weight_decay=halflife.HalfLife(steps=2000), decay="corrected")
print(halflife.describe(optimizer))
