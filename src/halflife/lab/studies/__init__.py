"""Every published claim, registered, measured and judged.

A `design` says what is claimed and how it is judged, before anything is run. A plan (`calls`) asks
for measurements, which `running` has done by worker processes and a `ledger` keeps; `verdict` says
what they say of the claim. The papers' studies are in a module each; `bench` is what they train.
"""

from . import exact_adagrad as exact_adagrad
from . import exact_loshchilov as exact_loshchilov
from . import exact_schaipp as exact_schaipp
from . import exact_xie as exact_xie
from . import exact_zhou_convergence as exact_zhou_convergence
from . import exact_zhou_generalization as exact_zhou_generalization
from . import exact_zhuang as exact_zhuang
from . import xie as xie
