"""The networks that the papers trained, each built by one function that returns a plain module.

`MODELS` has them by name, `build` builds one. Networks for images take ``[batch, channels, height,
width]`` of any size that their strides allow, language models tokens ``[batch, time]``. Weights are
drawn when a model is built, from torch's generator in a fixed order, as in the source that the
function names. All run compiled, in bfloat16 and under autocast; those for images keep
``channels_last``.
"""

from .catalogue import MODELS, build
from .densenet import densenet121, densenet_bc100
from .inception import googlenet
from .perceptron import mlp
from .recurrent import lstm
from .resnet import resnet18, resnet34, resnet50
from .resnet_cifar import cifar_resnet
from .shake_shake import shake_shake26
from .transformer import gpt
from .vgg import vgg16
from .vit import vit_s16

__all__ = [
    "MODELS",
    "build",
    "cifar_resnet",
    "densenet121",
    "densenet_bc100",
    "googlenet",
    "gpt",
    "lstm",
    "mlp",
    "resnet18",
    "resnet34",
    "resnet50",
    "shake_shake26",
    "vgg16",
    "vit_s16",
]
