"""What weight decay does to a Transformer on text: a sweep by Hugging Face's Trainer.

A tiny BERT, from scratch, tells from 40 bytes in which of four files they are. Run it again with a
folder, `python examples/sweep_hf_trainer.py runs/text`, and it goes on where it was. Needs the
extra hf.
"""

import sys
import tempfile
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from halflife import lab

folder = Path(__file__).parent.parent
names = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml"]
rows = [
    {"input_ids": piece, "labels": label}
    for label, name in enumerate(names)
    for piece in torch.tensor(list((folder / name).read_bytes()[:6000])).split(40)[:-1]
]
mixed = [rows[i] for i in torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]


def model_init(trial):
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=256,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=40,
            num_labels=len(names),
        )
    )


def errors(prediction):
    return {"error": 100 * float((prediction.predictions.argmax(1) != prediction.label_ids).mean())}


result = lab.sweep(
    lab.transformers(
        model_init,
        {"num_train_epochs": 3, "per_device_train_batch_size": 20, "warmup_steps": 5},
        train_dataset=mixed[:300],
        eval_dataset=mixed[300:400],
        test_dataset=mixed[400:],
        compute_metrics=errors,
    ),
    out=sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(),
    lr=lab.log(1e-3, 1e-2, 2),
    weight_decay=lab.log(1e-2, 1, 2),
    seeds=2,
    confirm=2,
    choose=lab.Metric("eval_error", "%", examples=100),
    report=lab.Metric("test_error", "%", examples=len(mixed) - 400),
    executor=lab.Local(2),
    resume=True,
)
print(result.sentence)
print(result.report())
