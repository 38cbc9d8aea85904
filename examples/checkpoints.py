"""Checkpoints of another decay: from torch, from another run, and into torch.

Each case prints the share of every weight that a step then removes.
"""

import warnings

import torch

import halflife


def optimizer_of(cls=halflife.AdamW, lr=1e-3, **settings):
    return cls([torch.nn.Parameter(torch.ones(1, dtype=torch.float64))], lr=lr, **settings)


def removed(optimizer):
    (weight,) = optimizer.param_groups[0]["params"]
    weight.data.fill_(1.0)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    return f"{1.0 - weight.item():.4g}"


# A torch checkpoint brings a number, in torch's meaning of it.
theirs = optimizer_of(torch.optim.AdamW, weight_decay=0.1).state_dict()
half_life = {"weight_decay": halflife.HalfLife(steps=1000)}

optimizer = optimizer_of(**half_life)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    optimizer.load_state_dict(theirs)
print(f"warning: {said[0].message}\n")
print("torch's number:", removed(optimizer))

optimizer = optimizer_of(**half_life)
optimizer.load_state_dict(theirs, keep="constructed")
print("the half-life:", removed(optimizer))

optimizer = optimizer_of(**half_life)
optimizer.keep_on_load = "constructed"  # where a framework calls load_state_dict
optimizer.load_state_dict(theirs)
print("the half-life, loaded by a framework:", removed(optimizer))

# Into torch, which reads the number and not the rule: convert it, or attach the rule.
ours = optimizer_of(weight_decay=1e-4, decay="independent").state_dict()

optimizer = optimizer_of(torch.optim.AdamW)
optimizer.load_state_dict(ours)
print("an independent number in torch:", removed(optimizer))

for group in optimizer.param_groups:
    group["weight_decay"] = float(
        halflife.convert(group["weight_decay"], "independent", "torch", lr=group["peak_lr"])
    )
print("converted:", removed(optimizer))

optimizer = optimizer_of(torch.optim.AdamW)
optimizer.load_state_dict(ours)
halflife.attach(optimizer, optimizer.param_groups[0]["decay"])
print("attached:", removed(optimizer))
