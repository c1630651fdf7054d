"""A BiomedCLIP in miniature: the same parts and the same files as the one on the hub, with random weights.

BiomedCLIP is a timm ViT trunk with a linear projection, a BERT text tower with an MLP projection that
reads the last hidden state of [CLS], and a WordPiece tokenizer. Every part is kept, each at its smallest,
so that whatever loads this folder loads the published one.
"""

import json
from pathlib import Path

import torch
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file
from transformers import BertConfig

TEXT_MODEL = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"

_VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("a", "an", "chest", "x", "-", "ray", "showing", "no", "the", "of", "with", "without", "normal"),
    *("cardio", "##megaly", "pneumo", "##thorax", "##nia", "edema", "pleural", "effusion", "lung", "opacity"),
]

MODEL_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {
        "timm_model_name": "test_vit",  # 64 wide, 160 px: BiomedCLIP has vit_base_patch16_224
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 160,
    },
    "text_cfg": {
        "hf_model_name": TEXT_MODEL,
        "hf_tokenizer_name": TEXT_MODEL,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 24,
    },
}
PREPROCESS_CONFIG = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}


def build_miniature_biomedclip(
    folder: Path, *, seed: int = 0, weights: str = "open_clip_model.safetensors"
) -> Path:
    """Write the model into `folder` as an open_clip `local-dir:`; 1.7 MB, the same weights for a seed.

    `weights` is the file name of the state dict: a name that ends in .bin is written as a pickle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text_files(folder)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG}, indent=2)
    )
    text_config = MODEL_CONFIG["text_cfg"] | {"hf_model_name": str(folder), "hf_model_pretrained": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CustomTextCLIP(MODEL_CONFIG["embed_dim"], MODEL_CONFIG["vision_cfg"], text_config)
    if weights.endswith(".safetensors"):
        save_file(model.state_dict(), folder / weights)
    else:
        torch.save(model.state_dict(), folder / weights)
    return folder


def write_text_files(folder: Path) -> None:
    """The BERT configuration and the WordPiece tokenizer, as the hub keeps them for the text tower."""
    folder.mkdir(parents=True, exist_ok=True)
    BertConfig(
        vocab_size=len(_VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    ).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(_VOCABULARY) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 32})
    )
