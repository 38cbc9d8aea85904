"""Trainings as they are published, or should be, in which nothing is to be found."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)

import halflife
from halflife.diagnostics.auditing import audit
from halflife.groups import param_groups
from halflife.schedules import CurveLR, JointScheduler, linear

RECIPES = {}


def recipe(build):
    RECIPES[build.__name__] = build
    return build


class LayerNorm(nn.Module):  # nanoGPT has its own
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))


class Attention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(size, 3 * size), nn.Linear(size, size)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.ln_1, self.attn = LayerNorm(size), Attention(size)


class GPT(nn.Module):
    def __init__(self, size=16, tied=True):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(32, size), nn.Embedding(8, size)
        self.h = nn.ModuleList(Block(size) for _ in range(2))
        self.ln_f, self.lm_head = LayerNorm(size), nn.Linear(size, 32, bias=False)
        if tied:
            self.wte.weight = self.lm_head.weight


def warmup_cosine(steps, warmup, floor=0.1):
    def multiplier(step):
        if step < warmup:
            return (step + 1) / (warmup + 1)
        position = (step - warmup) / (steps - warmup)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * position))

    return multiplier


@recipe
def nanogpt():
    """Decay for what has two dimensions, warm-up and cosine to a tenth; tied embeddings decay."""
    model = GPT()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95))
    return model, optimizer, {"schedule": warmup_cosine(6000, 20), "steps": 6000}


class ViT(nn.Module):
    def __init__(self, size=16):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, size, 4, 4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size))
        self.pos_embed = nn.Parameter(torch.randn(1, 5, size) * 0.02)
        layer = nn.TransformerEncoderLayer(size, 2, 32, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(size), nn.Linear(size, 10)

    def no_weight_decay(self):
        return {"pos_embed", "cls_token"}


@recipe
def vit():
    """timm's groups, cosine to zero."""
    model = ViT()
    optimizer = torch.optim.AdamW(param_groups(model), lr=1e-3, weight_decay=0.05)
    more = {"schedule": CosineAnnealingLR(optimizer, 3000), "steps_per_epoch": 100}
    return model, optimizer, more


@recipe
def resnet():
    """SGD with momentum; batch norm and biases do not decay; steps of the lr by the epoch."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 10)
    )
    optimizer = torch.optim.SGD(
        param_groups(model), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = MultiStepLR(optimizer, [20, 30], gamma=0.2)
    more = {"steps": 40 * 100, "steps_per_epoch": 100, "interval": "epoch"}
    return model, optimizer, {"schedule": schedule, **more}


class LoRA(nn.Module):
    def __init__(self, size=16, rank=1):
        super().__init__()
        self.base = nn.Linear(size, size)
        self.lora_A, self.lora_B = nn.Linear(size, rank, False), nn.Linear(rank, size, False)
        self.base.requires_grad_(False)


@recipe
def lora():
    """Adapters alone are in the optimizer, without decay."""
    model = nn.Sequential(LoRA(), nn.LayerNorm(16).requires_grad_(False), LoRA())
    adapters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(adapters, lr=2e-4, weight_decay=0.0)
    return model, optimizer, {"schedule": linear(1000), "steps": 1000}


@recipe
def lora_with_decay():
    """Decay of an adapter leads back to the pretrained weights, at a timescale that is felt."""
    model = LoRA(rank=2)
    optimizer = halflife.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=2e-4,
        weight_decay=halflife.Timescale(steps=2000),
    )
    return model, optimizer, {"schedule": linear(1000), "steps": 1000}


@recipe
def muon_and_adamw():
    """Muon for hidden matrices, AdamW for the rest; two schedulers."""
    model = GPT(tied=False)
    hidden = [p for p in model.h.parameters() if p.dim() == 2]
    rest = [p for p in (*model.wte.parameters(), *model.wpe.parameters())]
    gains = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": [*rest, model.lm_head.weight]},
        {"params": gains, "weight_decay": 0.0},
    ]
    optimizers = [
        torch.optim.Muon(hidden, lr=0.02, weight_decay=0.1),
        torch.optim.AdamW(groups, lr=3e-4, weight_decay=0.1),
    ]
    schedules = [CurveLR(o, linear(2000)) for o in optimizers]
    return model, optimizers, {"schedule": schedules, "steps": 2000}


@recipe
def fine_tuning_without_decay():
    """Everything trains, nothing decays, and the setting says so."""
    model = GPT()
    groups = param_groups(model, weight_decay=0.0)
    optimizer = torch.optim.AdamW(groups, lr=2e-5)
    return model, optimizer, {"schedule": warmup_cosine(3000, 100, 0.0), "steps": 3000}


@recipe
def olmo():
    """Embeddings do not decay."""
    model = GPT(tied=False)
    groups = param_groups(model, "norm-bias-and-embedding-free")
    optimizer = torch.optim.AdamW(groups, lr=4e-4, weight_decay=0.1, betas=(0.9, 0.95))
    return model, optimizer, {"schedule": warmup_cosine(5000, 100), "steps": 5000}


class ZeroCentredRMSNorm(nn.Module):
    """Multiplies by ``1 + weight``, as Gemma's."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(size))


@recipe
def zero_centred_gains():
    """Decay of ``1 + gain`` is decay towards one."""
    model = nn.Sequential(nn.Linear(16, 16, bias=False), ZeroCentredRMSNorm(16))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    return model, optimizer, {"schedule": warmup_cosine(4000, 100), "steps": 4000}


@recipe
def bfloat16_weights_on_an_optimizer_of_ours():
    model = GPT().bfloat16()
    optimizer = halflife.AdamW(param_groups(model), lr=6e-4, weight_decay=0.1)
    return model, optimizer, {"schedule": warmup_cosine(5000, 100), "steps": 5000}


@recipe
def bfloat16_weights_under_fused():
    """Updates large enough against the weights' spacing carry the decay."""
    model = GPT().bfloat16()
    for weight in model.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, std=0.02)
    optimizer = torch.optim.AdamW(param_groups(model), lr=1e-3, weight_decay=0.1, fused=True)
    return model, optimizer, {"schedule": warmup_cosine(5000, 100), "steps": 5000}


@recipe
def corrected_decay_under_warm_up_stable_decay():
    model = GPT()
    optimizer = halflife.AdamW(
        param_groups(model), lr=1e-3, weight_decay=halflife.TargetRMS(0.05), decay="corrected"
    )
    parts = [
        LinearLR(optimizer, 0.01, 1.0, 50),
        ConstantLR(optimizer, 1.0, 1),
        LinearLR(optimizer, 1.0, 0.0, 200),
    ]
    return model, optimizer, {"schedule": SequentialLR(optimizer, parts, [50, 800]), "steps": 1000}


@recipe
def one_cycle_with_its_peak():
    model = GPT()
    optimizer = halflife.AdamW(
        param_groups(model), lr=1e-3, peak_lr=1e-2, weight_decay=1e-4, decay="independent"
    )
    schedule = OneCycleLR(optimizer, max_lr=1e-2, total_steps=500)
    return model, optimizer, {"schedule": schedule}


@recipe
def one_cycle_with_a_half_life_at_its_peak():
    model = GPT()
    half_life = halflife.HalfLife(steps=200)
    optimizer = halflife.AdamW(param_groups(model), lr=4e-4, peak_lr=1e-2, weight_decay=half_life)
    return model, optimizer, {"schedule": OneCycleLR(optimizer, max_lr=1e-2, total_steps=500)}


@recipe
def one_cycle_with_a_number():
    """The number of torch's AdamW means the same at any peak."""
    model = GPT()
    optimizer = halflife.AdamW(param_groups(model), lr=1e-3, weight_decay=0.1)
    return model, optimizer, {"schedule": OneCycleLR(optimizer, max_lr=1e-2, total_steps=5000)}


@recipe
def l2_sp():
    """Everything, gains too, decays towards the pretrained weights."""
    model = GPT()
    optimizer = halflife.AdamW(
        model.parameters(), lr=1e-4, weight_decay=1.0, decay=halflife.Anchored()
    )
    return model, optimizer, {"schedule": linear(3000), "steps": 3000, "steps_per_epoch": 1000}


@recipe
def lion():
    model = GPT()
    optimizer = halflife.Lion(param_groups(model), lr=1e-4, weight_decay=1.0)
    return model, optimizer, {"schedule": warmup_cosine(5000, 100), "steps": 5000}


class DeepViT(ViT):
    def __init__(self, size=16, depth=24):
        super().__init__(size)
        layer = nn.TransformerEncoderLayer(size, 2, 32, norm_first=True)
        self.blocks = nn.ModuleList(copy.deepcopy(layer) for _ in range(depth))


@recipe
def fine_tuning_with_layer_decay():
    """BEiT's and MAE's: the lr falls by 0.75 a layer, to a 1,300th at the embeddings."""
    model = DeepViT()
    groups = param_groups(model, lr=4e-3, layer_decay=0.75)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    more = {"schedule": CosineAnnealingLR(optimizer, 6000), "steps_per_epoch": 1200}
    return model, optimizer, more


@recipe
def a_loop_that_multiplies_lr_scale():
    """MAE's: groups carry ``lr_scale``, and the loop writes each lr."""
    model = DeepViT()
    scaled = param_groups(model, lr=1.0, layer_decay=0.75)
    groups = [
        {"lr_scale": group["lr"], **{k: v for k, v in group.items() if k != "lr"}}
        for group in scaled
    ]
    optimizer = torch.optim.AdamW(groups, lr=4e-3, weight_decay=0.05)
    return model, optimizer, {"schedule": warmup_cosine(6000, 500), "steps": 6000}


class OnePlusRMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1.5, 3.0, size))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


@recipe
def trained_zero_centred_gains():
    """Far from one by now, and decay still leads back to it."""
    model = nn.Sequential(nn.Linear(16, 16, bias=False), OnePlusRMSNorm(16))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    return model, optimizer, {"schedule": warmup_cosine(4000, 100), "steps": 4000}


@recipe
def dino():
    """The lr warms up and falls while the weight decay rises."""
    model = ViT()
    optimizer = torch.optim.AdamW(param_groups(model), lr=5e-4, weight_decay=0.04)
    rise = lambda t: 1 + 9 * (0.5 - 0.5 * math.cos(math.pi * t / 30_000))  # noqa: E731
    schedule = JointScheduler(optimizer, lr=warmup_cosine(30_000, 3000, 2e-3), weight_decay=rise)
    return model, optimizer, {"schedule": schedule, "steps": 30_000, "steps_per_epoch": 300}


class TimmCosine:
    """Timm's interface, by the epoch; each group has its share of the lr."""

    t_in_epochs = True

    def __init__(self, optimizer, epochs):
        self.optimizer, self.epochs = optimizer, epochs
        self.base_values = [group["lr"] for group in optimizer.param_groups]

    def step(self, epoch, metric=None):
        factor = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        for group, value in zip(self.optimizer.param_groups, self.base_values, strict=True):
            group["lr"] = value * factor * group["lr_scale"]

    def step_update(self, num_updates, metric=None):
        pass


@recipe
def timm_with_layer_decay():
    model = ViT()
    optimizer = torch.optim.AdamW(param_groups(model), lr=1e-3, weight_decay=0.05)
    for group in optimizer.param_groups:
        group["lr_scale"] = 1.0
    return (
        model,
        optimizer,
        {"schedule": TimmCosine(optimizer, 50), "steps": 5000, "steps_per_epoch": 100},
    )


class Warming(torch.optim.AdamW):
    """Gathers its moments for some steps before it moves anything, as RAdam of some packages."""

    def step(self, closure=None):
        self.count = getattr(self, "count", 0) + 1
        return super().step(closure) if self.count > 5 else None


@recipe
def an_optimizer_that_waits():
    model = GPT()
    optimizer = Warming(param_groups(model), lr=6e-4, weight_decay=0.1)
    return model, optimizer, {"schedule": warmup_cosine(6000, 20), "steps": 6000}


@recipe
def adapters_on_quantised_weights():
    """The base model's weights are codes in int8."""
    model = LoRA(rank=2)
    codes = torch.randint(-127, 127, (16, 16), dtype=torch.int8)
    model.base.weight = nn.Parameter(codes, requires_grad=False)
    adapters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(adapters, lr=2e-4, weight_decay=0.0)
    return model, optimizer, {"schedule": linear(1000), "steps": 1000}


@recipe
def norms_alone_are_trained_by_groups_of_a_trainer():
    """The group that decays is empty."""
    model = GPT().requires_grad_(False)
    gains = [p for n, p in model.named_parameters() if "ln" in n]
    for p in gains:
        p.requires_grad_(True)
    groups = [{"params": [], "weight_decay": 1e-4}, {"params": gains, "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=1e-3), {"schedule": linear(1000), "steps": 1000}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_has_no_finding(name):
    model, optimizer, arguments = RECIPES[name]()
    result = audit(model, optimizer, **arguments)
    assert not [f for f in result.findings if f.severity != "info"]
    assert result.exit_code == 0
    assert all(row.decays or row.reason for row in result.parameters)


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
@pytest.mark.filterwarnings("ignore::UserWarning:torch.distributed")
def test_sharded_model_has_no_finding_unless_the_optimizer_came_first(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        model = GPT()
        early = torch.optim.AdamW(param_groups(model), lr=6e-4, weight_decay=0.1)
        for block in model.h:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        optimizer = torch.optim.AdamW(param_groups(model), lr=6e-4, weight_decay=0.1)
        result = audit(model, optimizer, schedule=warmup_cosine(5000, 100), steps=5000)
        mistaken = audit(model, early)
    finally:
        dist.destroy_process_group()
    assert not [f for f in result.findings if f.severity != "info"]
    rows = {row.name: row for row in result.parameters}
    assert rows["h.0.attn.c_attn.weight"].shape == (48, 16)
    assert rows["h.0.ln_1.weight"].rms == 1.0
    assert rows["h.0.attn.c_attn.weight"].decays
    assert "stale-optimizer" in [f.code for f in mistaken.errors]


def test_there_are_ten_recipes():
    assert len(RECIPES) >= 10
