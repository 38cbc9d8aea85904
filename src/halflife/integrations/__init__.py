"""One module a framework: `halflife.integrations.transformers`, `halflife.integrations.lightning`.

Optimizers of halflife need no integration to run there: they are torch optimizers. What is here
hands them to trainers that build the optimizer themselves, and watches the decay while they train.
"""
