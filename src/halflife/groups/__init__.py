"""Which parameters decay, in what groups, and why.

`param_groups` sorts the parameters of a model into groups for any torch optimizer and keeps the
reason of every decision:

    groups = param_groups(model, overrides={"head.*": {"lr": 1e-4}})
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1)
    logger.info(groups.table())

A policy is a list of exemptions. A parameter decays unless an exemption of the policy holds for it.
"""

from .decisions import ParameterDecision, ParamGroups
from .groups import param_groups

__all__ = ["ParamGroups", "ParameterDecision", "param_groups"]
