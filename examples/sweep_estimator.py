"""What regularization does to an estimator of scikit-learn: a sweep over its alpha.

scikit-learn's MLPClassifier adds `alpha * w` to the gradient, divided by the size of a batch: that
is the rule l2. Run it again with a folder, `python examples/sweep_estimator.py runs/mlp`, and it
goes on where it was.
"""

import sys
import tempfile
import warnings

from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from halflife import lab

images, labels = load_digits(return_X_y=True)
BATCH = 50


def make(trial):
    # 15 passes and no more: that it has not converged is meant.
    warnings.filterwarnings("ignore", message=".*Maximum iterations")
    return MLPClassifier(
        32,
        alpha=trial.weight_decay * BATCH,
        learning_rate_init=trial.lr,
        batch_size=BATCH,
        max_iter=15,
        random_state=trial.seed,
    )


result = lab.sweep(
    lab.estimator(make, images[:800] / 16, labels[:800], validation=0.25, test=0.25),
    out=sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(),
    lr=lab.log(1e-3, 1e-1, 3),
    weight_decay=lab.log(1e-4, 1e-1, 3),
    rules="l2",
    default=False,
    seeds=2,
    confirm=4,
    choose=lab.Metric("val", goal="max", examples=200),
    report=lab.Metric("test", goal="max", examples=200),
    executor=lab.Local(2),
    resume=True,
)
print(result.sentence)
print(result.report())
