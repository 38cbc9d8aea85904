"""ViT-S/16: the vision transformer of Dosovitskiy et al. 2021 in the small size of DeiT.

An image is cut into patches, each a token by one linear map; a class token is set before them, a
table of positions added, and the class token after the last block is what is classified.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...checks import require, require_count
from .attention import TransformerBlock
from .layers import require_images

__all__ = ["vit_s16"]


def vit_s16(
    *,
    classes: int = 1000,
    channels: int = 3,
    image: int = 224,
    patch: int = 16,
    depth: int = 12,
    width: int = 384,
    heads: int = 6,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> nn.Module:
    """ViT-S/16 of Touvron et al. 2021 (DeiT-S), Table 1, without distillation.

    Structure and initialisation are those of `facebookresearch/deit` and timm at its time: blocks
    with the norm first, biases everywhere, exact GELU, eps 1e-6; matrices, class token and
    positions from N(0, 0.02²) cut at ±2, biases 0, the patches' map as torch has it. Class token
    and positions are named by ``no_weight_decay()``, as there, so they do not decay.

    Args:
        classes: of the images.
        channels: of the images.
        image: height and width of the images. Unit: pixels.
        patch: height and width of a patch, which divides `image`. Unit: pixels.
        depth: number of blocks.
        width: of the tokens.
        heads: of the attention; they divide `width`.
        dropout: probability, for attention, parts of blocks, and after the positions.
        drop_path: probability that the last block's parts are left out for an image; it rises
            linearly from 0 at the first block. DeiT trains with 0.1.

    Returns:
        A module from images ``[batch, channels, image, image]`` to logits ``[batch, classes]``.

    Raises:
        ValueError: for patches that do not tile an image, heads that do not share the width, or a
            probability outside [0, 1).

    Example:
        >>> with torch.device("meta"):
        ...     sum(p.numel() for p in vit_s16().parameters())
        22050664
    """
    require_images(classes, channels)
    require_count("depth", depth, "pass the number of blocks, 12 for ViT-S")
    require_count("patch", patch, "pass the pixels of a patch's side, 16 for ViT-S/16")
    tiled = isinstance(image, int) and image >= patch and image % patch == 0
    require(tiled, "image", f"a multiple of patch={patch}", image, "change either")
    require_transformer(width, heads, dropout, drop_path=drop_path)
    places = (image // patch) ** 2
    model = _ViT(nn.Conv2d(channels, width, patch, patch), image, places, classes, dropout)
    for block in range(depth):
        rising = drop_path * block / max(depth - 1, 1)
        model.blocks.append(
            TransformerBlock(
                width, heads, causal=False, dropout=dropout, drop_path=rising, eps=1e-6
            )
        )
    for tensor in (model.class_token, model.position):
        nn.init.trunc_normal_(tensor, std=0.02)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return model


def require_transformer(width: int, heads: int, dropout: float, **probabilities: float) -> None:
    """Refuse heads that do not share the width, and what is no probability."""
    require_count("heads", heads, "pass the number of heads")
    shared = isinstance(width, int) and width > 0 and width % heads == 0
    require(shared, "width", f"a multiple of heads={heads}", width, "change either")
    for name, value in {"dropout": dropout, **probabilities}.items():
        remedy = "pass a probability, 0 for none"
        require(0 <= value < 1, name, "a number in [0, 1)", value, remedy)


class _ViT(nn.Module):
    def __init__(
        self, patches: nn.Conv2d, image: int, places: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        width = patches.out_channels
        self.image = image
        self.patches = patches
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 1 + places, width))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList()
        self.norm = nn.LayerNorm(width, 1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        side = (self.image, self.image)
        require(
            images.shape[-2:] == side, "images", f"{side} pixels", images.shape, "pass image=..."
        )
        patches = self.patches(images).flatten(2).transpose(1, 2)  # a view in channels_last
        token = self.class_token.expand(len(images), -1, -1).to(patches.dtype)
        tokens = self.drop(torch.cat((token, patches), 1) + self.position)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens[:, 0]))  # the others are not used

    @staticmethod
    def no_weight_decay() -> set[str]:
        """Names that `halflife.param_groups` and timm exempt from decay."""
        return {"class_token", "position"}
