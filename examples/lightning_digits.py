"""Lightning's Trainer: a decay in half-lives, audited at the start and watched in the log.

bfloat16, accumulation and clipping are the Trainer's own. Needs the extra lightning.
"""

import tempfile
import warnings

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits

import halflife
from halflife.integrations.lightning import WeightDecayMonitor

warnings.filterwarnings("ignore", message=".*(LeafSpec|does not have many workers)")


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
        )

    def training_step(self, batch, index):
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.net(images), labels)

    def configure_optimizers(self):
        steps = self.trainer.estimated_stepping_batches
        optimizer = halflife.AdamW(
            halflife.param_groups(self),
            lr=1e-2,
            weight_decay=halflife.HalfLife(steps=40),
            decay="independent",
        )
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-3)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


lightning.seed_everything(0, verbose=False)
digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
train = torch.utils.data.TensorDataset(images[:1000], labels[:1000])
model, watch = Classifier(), WeightDecayMonitor(every=20)

with tempfile.TemporaryDirectory() as folder:
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        precision="bf16-mixed",
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        callbacks=[watch],
        logger=CSVLogger(folder),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, torch.utils.data.DataLoader(train, 25, shuffle=True))
print(watch.audit)
print(watch.monitors[0].table())

error = 100 * (model.net(images[1000:]).argmax(1) != labels[1000:]).float().mean()
print(f"test error {error:.1f} %")
