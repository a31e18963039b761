"""Data sets as uint8 tensors; the augmentations, batched, on the device where the images lie."""

from mixer.data.ahead import Ahead
from mixer.data.dataset import ImageData
from mixer.data.load import check_name, load_data
from mixer.data.store import ImageStore, Pictures
from mixer.data.transforms import (
    Share,
    flip,
    normalize,
    random_crop,
    random_flip,
    random_resized_crop,
    resize,
    resized_crop,
    sample_crop_boxes,
    sample_torchvision_boxes,
    shifted_crop,
    torchvision_crop,
)
from mixer.files import data_dir

__all__ = [
    "Ahead",
    "ImageData",
    "ImageStore",
    "Pictures",
    "Share",
    "check_name",
    "data_dir",
    "flip",
    "load_data",
    "normalize",
    "random_crop",
    "random_flip",
    "random_resized_crop",
    "resize",
    "resized_crop",
    "sample_crop_boxes",
    "sample_torchvision_boxes",
    "shifted_crop",
    "torchvision_crop",
]
