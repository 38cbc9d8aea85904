"""The papers' data: read from their own files, kept in 8 bits, augmented in batches.

    data = load("cifar10", "cifar-10-python.tar.gz", validation=5000)
    for images, targets in batches(data.train, 128, seed=0, epoch=0, augment=PadCropFlip()):
        ...

`load` finds a reader by its name; each is in a file of its own, and checks what it reads. `batches`
and `windows` are what a training goes over. `augment` and `boxes` are what is done to images.
"""

from .augment import Augmentation, Chain, Cutout, Flip, Pad, PadCropFlip, normalise
from .batching import batch_count, batches
from .boxes import Boxed, CentreCrop, RandomResizedCrop, resampled
from .cifar import load_cifar10, load_cifar100
from .dataset import Dataset, Rows, Split, hold_out, statistics
from .digits import load_digits
from .fashion_mnist import load_fashion_mnist
from .files import DataError
from .imagenet import load_imagenet
from .imagenet32 import load_imagenet32
from .loading import DATASETS, load
from .mnist1d import load_mnist1d, make_mnist1d
from .streams import random_windows, window_count, windows
from .text import Vocabulary, load_ptb, load_text, unigram_entropy
from .throughput import images_per_second, trained_per_second

__all__ = [
    "DATASETS",
    "Augmentation",
    "Boxed",
    "CentreCrop",
    "Chain",
    "Cutout",
    "DataError",
    "Dataset",
    "Flip",
    "Pad",
    "PadCropFlip",
    "RandomResizedCrop",
    "Rows",
    "Split",
    "Vocabulary",
    "batch_count",
    "batches",
    "hold_out",
    "images_per_second",
    "load",
    "load_cifar10",
    "load_cifar100",
    "load_digits",
    "load_fashion_mnist",
    "load_imagenet",
    "load_imagenet32",
    "load_mnist1d",
    "load_ptb",
    "load_text",
    "make_mnist1d",
    "normalise",
    "random_windows",
    "resampled",
    "statistics",
    "trained_per_second",
    "unigram_entropy",
    "window_count",
    "windows",
]
