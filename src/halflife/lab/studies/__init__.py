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
from . import loshchilov as loshchilov
from . import loshchilov_anytime as loshchilov_anytime
from . import practice as practice
from . import practice_dynamics as practice_dynamics
from . import practice_transfer as practice_transfer
from . import xie as xie
from . import xie_sharpness as xie_sharpness
from . import xie_stable as xie_stable
from . import xie_tables as xie_tables
from . import zhou as zhou
from . import zhou_matrices as zhou_matrices
from . import zhuang as zhuang
