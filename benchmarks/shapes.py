"""The parameter lists of some well-known models, as shapes: no model is built, only its tensors.

mlp          6 tensors    0.27 M parameters
resnet20    59 tensors    0.27 M parameters    many tiny tensors: the cost of a call shows
resnet18    62 tensors   11.7  M parameters
gpt2       148 tensors  124.4  M parameters    the cost of a pass over the memory shows
"""

from __future__ import annotations

from collections.abc import Callable

Shape = tuple[int, ...]


def resnet20() -> list[Shape]:
    """The CIFAR network of He et al. 2016: three stages of three blocks, no projections."""
    shapes = _convolution(3, 16, 3)
    channels = 16
    for width in (16, 32, 64):
        for _ in range(3):
            shapes += _convolution(channels, width, 3) + _convolution(width, width, 3)
            channels = width
    return [*shapes, (10, 64), (10,)]


def resnet18() -> list[Shape]:
    """The ImageNet network of He et al. 2016, with 1x1 projections between stages."""
    shapes = _convolution(3, 64, 7)
    channels = 64
    for width in (64, 128, 256, 512):
        for _ in range(2):
            shapes += _convolution(channels, width, 3) + _convolution(width, width, 3)
            if channels != width:
                shapes += _convolution(channels, width, 1)
            channels = width
    return [*shapes, (1000, 512), (1000,)]


def gpt2() -> list[Shape]:
    """The smallest GPT-2: 12 layers of width 768; the output shares the token embedding."""
    width = 768
    shapes: list[Shape] = [(50257, width), (1024, width)]
    for _ in range(12):
        shapes += [(width,), (width,), (width, 3 * width), (3 * width,), (width, width), (width,)]
        shapes += [(width,), (width,), (width, 4 * width), (4 * width,), (4 * width, width)]
        shapes += [(width,)]
    return [*shapes, (width,), (width,)]


def mlp() -> list[Shape]:
    """Two hidden layers of 256 for the digits of MNIST."""
    return [(256, 784), (256,), (256, 256), (256,), (10, 256), (10,)]


def tiny() -> list[Shape]:
    """A handful of tensors, for the tests of these benchmarks."""
    return [*_convolution(2, 3, 3), (4, 3), (4,)]


MODELS: dict[str, Callable[[], list[Shape]]] = {
    "resnet20": resnet20,
    "resnet18": resnet18,
    "gpt2": gpt2,
    "mlp": mlp,
    "tiny": tiny,
}


def _convolution(inputs: int, outputs: int, size: int) -> list[Shape]:
    """A convolution without bias and its batch norm."""
    return [(outputs, inputs, size, size), (outputs,), (outputs,)]
