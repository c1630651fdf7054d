"""Strategies that spoil JSON and files, and how their examples are tried."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.hostile.examples import EXAMPLES

FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")]),
    st.integers(-10, 5000),
)
WORDS = st.one_of(
    st.sampled_from(
        [
            "",
            "own.Own",
            "own.py",
            "hf-hub:someone/model",
            "someone/model",
            "local-dir:/etc",
            "/etc/passwd",
            "../../outside",
            "https://example.org/model",
            "file:///etc/passwd",
            "vit_base_patch16_224",
            "0" * 64,
            "x" * 5000,
            "\N{SNOWMAN}\n\x00",
        ]
    ),
    st.text(max_size=20),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=4),
    st.sampled_from(
        [
            {"trust_remote_code": True},
            {"auto_map": {"AutoTokenizer": ["own.Own", "own.Own"], "AutoModel": "own.OwnModel"}},
            {"__type": "AddedToken", "content": "x"},
            {"": {}},
            [[]] * 5,
            ["x"] * 20_000,
            list(range(20_000)),
        ]
    ),
    st.dictionaries(WORDS, SCALARS, max_size=3),
)
KEYS = st.sampled_from(
    [
        "trust_remote_code",
        "auto_map",
        "hf_model_name",
        "hf_tokenizer_name",
        "timm_model_name",
        "tokenizer_class",
        "tokenizer_kwargs",
        "model_type",
        "_attn_implementation",
        "quantization_config",
        "torch_dtype",
        "vocab_file",
        "layers",
        "own",
    ]
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Of every value in a JSON object what holds it, and under which key or number."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


@st.composite
def spoiled_json(draw: st.DrawFn, content: dict[str, Any]) -> dict[str, Any]:
    """The object with up to three of its values replaced, taken out or given a further key; `content` itself
    is changed."""
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from([(content, draw(KEYS)), *places(content)]))
        what = draw(st.sampled_from(["replace", "replace", "take out", "add"]))
        if what == "take out" and isinstance(holder, dict):
            holder.pop(key, None)
        elif what == "add" and isinstance(holder, dict):
            holder[draw(KEYS)] = deepcopy(draw(VALUES))
        else:
            holder[key] = deepcopy(draw(VALUES))  # which may be changed itself in the next round
    return content


@st.composite
def spoiled_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes with some flipped, cut off, doubled or put in."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        what = draw(st.sampled_from(["flip", "cut", "double", "put in"]))
        if what == "flip" and content:
            content = content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
        elif what == "cut":
            content = content[:at]
        elif what == "double":
            content = content[:at] + content
        else:
            content = content[:at] + draw(st.binary(min_size=1, max_size=40)) + content[at:]
    return content
