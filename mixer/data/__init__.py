"""Data sets, in memory or as folders of photos, and the augmentations, batched, on the device."""

from mixer.data.augment import flip as flip
from mixer.data.augment import normalize as normalize
from mixer.data.augment import random_crop as random_crop
from mixer.data.augment import random_flip as random_flip
from mixer.data.augment import random_resized_crop as random_resized_crop
from mixer.data.augment import resize as resize
from mixer.data.augment import resized_crop as resized_crop
from mixer.data.augment import sample_crop_boxes as sample_crop_boxes
from mixer.data.augment import shifted_crop as shifted_crop
from mixer.data.dataset import ImageData as ImageData
from mixer.data.folder import Photos as Photos
from mixer.data.folder import UnreadablePhoto as UnreadablePhoto
from mixer.data.folder import read_photo as read_photo
from mixer.data.sources import check_name as check_name
from mixer.data.sources import load_data as load_data
from mixer.files import data_dir as data_dir
