"""Checkpoints of torchvision and CVNet give the same trunk; ReLUP, channel order and whitening are the checkpoint's."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rerank_core.errors import InputError, UsageError
from rerank_image.backbones import load_backbone
from rerank_image.extract import ExtractConfig, load_extractor

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def reference() -> Any:
    """torchvision's own network with random weights and running statistics."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return network


def cvnet_state(reference: Any, with_fc: bool = True) -> dict[str, Any]:
    """The same tensors under the names of CVNet's checkpoints, written out independently of our mapping."""
    out = {}
    names = {"conv1": "f.a", "bn1": "f.a_bn", "conv2": "f.b", "bn2": "f.b_bn", "conv3": "f.c", "bn3": "f.c_bn"}
    names |= {"downsample.0": "proj", "downsample.1": "bn"}
    for key, value in reference.state_dict().items():
        if key.startswith("fc."):
            continue
        if not key.startswith("layer"):
            out[f"encoder_q.stem.{key.replace('conv1', 'conv').replace('bn1', 'bn')}"] = value
            continue
        match = re.fullmatch(r"layer(\d)\.(\d+)\.(\w+\d|downsample\.\d)\.(\w+)", key)
        assert match is not None, key
        stage, block, part, leaf = match.groups()
        out[f"encoder_q.s{stage}.b{int(block) + 1}.{names[part]}.{leaf}"] = value
    if with_fc:
        out["encoder_q.head.fc.weight"] = torch.randn(64, 2048, generator=torch.Generator().manual_seed(1)) / 45
        out["encoder_q.head.fc.bias"] = torch.linspace(-0.1, 0.1, 64)
        out["encoder_q.head.pool.p"] = torch.tensor([2.9])
    out["conv2ds.0.weight"] = torch.zeros(4, 4)  # the rest of that model is none of our business
    return out


def trunk(network: Any, x: Any) -> Any:
    layers = [
        network.conv1,
        network.bn1,
        network.relu,
        network.maxpool,
        *(getattr(network, f"layer{i}") for i in range(1, 5)),
    ]
    with torch.inference_mode():
        for layer in layers:
            x = layer(x)
    return x


@pytest.fixture(scope="module")
def picture() -> Any:
    return torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(2))


def test_torchvision_checkpoint_gives_torchvisions_map(reference: Any, picture: Any, tmp_path: Path) -> None:
    torch.save(reference.state_dict(), tmp_path / "tv.pth")
    backbone = load_backbone("resnet50", tmp_path / "tv.pth")
    with torch.inference_mode():
        torch.testing.assert_close(backbone.features(picture), trunk(reference, picture), rtol=1e-4, atol=1e-4)
    assert backbone.whitening is None


def test_cvnet_checkpoint_reads_bgr_and_brings_its_whitening(reference: Any, picture: Any, tmp_path: Path) -> None:
    state = cvnet_state(reference)
    torch.save({"epoch": 1, "model_state": state}, tmp_path / "cv.pyth")
    backbone = load_backbone("resnet50", tmp_path / "cv.pyth", relup=0)
    with torch.inference_mode():
        got = backbone.features(picture)
    torch.testing.assert_close(got, trunk(reference, picture.flip(1)), rtol=1e-4, atol=1e-4)
    assert backbone.whitening is not None and backbone.whitening[0].shape == (64, 2048)


def test_relup_clamps_stages_one_to_three(reference: Any, picture: Any, tmp_path: Path) -> None:
    torch.save({"model_state": cvnet_state(reference)}, tmp_path / "cv.pyth")
    from rerank_image.resnet import DEPTHS, ResNet, load_resnet, torchvision_name
    from rerank_image.weights import load_tensors

    network = ResNet(DEPTHS["resnet50"], 0.014).eval()
    state = load_tensors(tmp_path / "cv.pyth")
    network.load_state_dict({n: v for k, v in state.items() if (n := torchvision_name(k))}, strict=True)
    least: dict[str, float] = {}
    for stage in range(1, 5):
        for block in getattr(network, f"layer{stage}"):
            block.register_forward_hook(
                lambda _m, _i, out, s=f"layer{stage}": least.__setitem__(s, min(least.get(s, 1.0), float(out.min())))
            )
    with torch.inference_mode():
        want = network(picture.flip(1))
        torch.testing.assert_close(load_resnet("resnet50", tmp_path / "cv.pyth").features(picture), want)
    assert [least[f"layer{s}"] for s in (1, 2, 3)] == pytest.approx([0.014] * 3)
    assert least["layer4"] == 0


def test_descriptor_follows_the_released_order_of_steps(reference: Any, tmp_path: Path) -> None:
    """Regional-GeM, GeM+, L2, projection a scale; then normalised, maximum over scales, normalised."""
    from PIL import Image

    from rerank_image import pooling

    torch.save({"model_state": cvnet_state(reference)}, tmp_path / "cv.pyth")
    config = ExtractConfig("resnet50", str(tmp_path / "cv.pyth"), prep="original")
    extractor = load_extractor(config)
    pixels = np.random.default_rng(0).integers(0, 256, (150, 130, 3), dtype=np.uint8)
    got = extractor.describe([Image.fromarray(pixels)])[0]
    assert got.shape == (64,)
    bgr = torch.from_numpy(pixels[:, :, ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229)))
    weight, bias = extractor.backbone.whitening or (None, None)
    scales = []
    with torch.inference_mode():
        for scale in (0.7071, 1, 1.4142):
            size = [int(150 * scale), int(130 * scale)]
            x = torch.nn.functional.interpolate((bgr - mean) / std, size, mode="bilinear", align_corners=False)
            maps = extractor.backbone.features(x.flip(1))
            pooled = pooling.unit(pooling.gem(pooling.regional_gem(maps)))[0]
            z = torch.nn.functional.linear(pooled, weight, bias)
            scales.append(z / z.norm())
        want = torch.stack(scales).amax(0)
    np.testing.assert_allclose(got, (want / want.norm()).numpy(), atol=2e-5)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_other_files_are_refused(reference: Any, tmp_path: Path) -> None:
    broken = cvnet_state(reference)
    broken.pop("encoder_q.s3.b6.f.c.weight")
    torch.save(broken, tmp_path / "short.pyth")
    with pytest.raises(InputError, match="another network"):
        load_backbone("resnet50", tmp_path / "short.pyth")
    with pytest.raises(InputError, match="another network"):
        torch.save(cvnet_state(reference), tmp_path / "r50.pyth")
        load_backbone("resnet101", tmp_path / "r50.pyth")

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "owned",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"model_state": Evil()}))
    with pytest.raises(InputError, match="not a file of weights"):
        load_backbone("resnet50", tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()
    with pytest.raises(UsageError, match="ReLUP is built into"):
        load_backbone(relup=0.014)
