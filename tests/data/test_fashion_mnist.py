"""Fashion-MNIST is read as published, and a file that is missing, damaged or another one is named."""

import gzip
import hashlib

import numpy as np
import pytest
import torch

from limelight.data import fashion_mnist as data
from limelight.errors import InputError, MissingExtraError


@pytest.fixture
def few(tmp_path, monkeypatch):
    """A folder with files of the published form, three images to train on and two to test on."""
    rng, hashes = np.random.default_rng(0), {}
    for part, count in (("train", 3), ("t10k", 2)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for name, content in (
            (f"{part}-images-idx3-ubyte", bytes(16) + images.tobytes()),
            (f"{part}-labels-idx1-ubyte", bytes(8) + bytes(range(count))),
        ):
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
            hashes[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(data, "SHA256", hashes)
    monkeypatch.setenv(data.FOLDER, str(tmp_path))
    data.fashion_mnist.cache_clear()
    yield tmp_path
    data.fashion_mnist.cache_clear()


def test_all_four_files_are_read_packed_and_unpacked(few):
    (images, labels), (unseen, truth) = data.fashion_mnist()
    assert (images.shape, labels.tolist()) == ((3, 28, 28), [0, 1, 2])
    assert (unseen.shape, truth.tolist()) == ((2, 28, 28), [0, 1])
    assert 0 <= float(images.min()) < 0.01 < 0.99 < float(images.max()) <= 1
    packed = few / "train-images-idx3-ubyte.gz"
    (few / "train-images-idx3-ubyte").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    data.fashion_mnist.cache_clear()
    assert torch.equal(data.fashion_mnist()[0][0], images)


def test_images_are_drawn_without_repetition_and_shrunk_to_means(few):
    (images, labels), (unseen, _) = data.split(3, 1, 14, torch.Generator().manual_seed(1))
    (whole, _), _ = data.fashion_mnist()
    assert sorted(labels.tolist()) == [0, 1, 2]
    assert images.shape[1:] == unseen.shape[1:] == (14, 14)
    torch.testing.assert_close(images[0, 0, 0], whole[labels[0], :2, :2].mean())
    with pytest.raises(InputError, match="has 3 images, got 4"):
        data.split(4, 1, 8, torch.Generator())
    with pytest.raises(InputError, match="side of 1 to 28 pixels, got 29"):
        data.split(1, 1, 29, torch.Generator())


def test_a_missing_file_is_named_with_the_way_to_get_it_and_the_stand_in(few):
    assert data.missing() == ""
    (few / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(MissingExtraError, match=r"t10k-labels.* apt install dataset-fashion-mnist.*digits.*stand in"):
        data.fashion_mnist()


def test_a_file_that_is_damaged_or_another_one_is_found(few):
    labels = few / "train-labels-idx1-ubyte.gz"
    published = labels.read_bytes()
    labels.write_bytes(published[:-9])
    with pytest.raises(InputError, match=r"train-labels.*cannot be read.*fetch it again"):
        data.fashion_mnist()
    labels.write_bytes(gzip.compress(bytes(8) + bytes([9, 9, 9])))
    with pytest.raises(InputError, match=r"train-labels.* is not the published file.*SHA-256"):
        data.fashion_mnist()


@pytest.mark.slow
@pytest.mark.skipif(bool(data.missing()), reason="Fashion-MNIST is not here")
def test_the_published_data_has_its_ten_classes_in_equal_numbers():
    data.fashion_mnist.cache_clear()
    (images, labels), (unseen, truth) = data.fashion_mnist()
    assert (len(images), len(unseen)) == (60_000, 10_000)
    assert labels.bincount().tolist() == [6000] * 10
    assert truth.bincount().tolist() == [1000] * 10
