"""Hugging Face's Trainer: a small GPT-2 on the text of a README, its decay a half-life.

The Trainer builds the optimizer itself; it is told which one, and keeps its own rule of which
parameters decay. Needs the extra hf.
"""

import tempfile
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

import halflife
from halflife.integrations.transformers import WeightDecayMonitor, optimizer_cls_and_kwargs

text = torch.tensor(list((Path(__file__).parent.parent / "README.md").read_bytes()))
rows = [{"input_ids": row, "labels": row} for row in text.unfold(0, 64, 16)]

set_seed(0)
config = GPT2Config(
    vocab_size=256, n_positions=64, n_embd=64, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
)
model = GPT2LMHeadModel(config)

with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(
        folder,
        learning_rate=3e-3,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=10,
        max_steps=60,
        per_device_train_batch_size=16,
        logging_steps=20,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model,
        args,
        train_dataset=rows,
        optimizer_cls_and_kwargs=optimizer_cls_and_kwargs(
            args, weight_decay=halflife.HalfLife(steps=40), decay="independent"
        ),
    )
    watch = WeightDecayMonitor(trainer.log, every=30)
    trainer.add_callback(watch)
    result = trainer.train()
print(watch.audit)
print(f"training loss {result.training_loss:.2f}")
