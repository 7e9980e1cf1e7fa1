"""The text towers of open_clip: its own transformer, in a folder with ``open_clip_config.json``.

Written from open_clip 3 (``model.py``, ``transformer.py``, ``tokenizer.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edgevit.checkpoints.fields import Fields, refuse_parts
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.names import Names, nest
from edgevit.checkpoints.published.open_clip import CONFIG_FILE, TEXT_BLOCK
from edgevit.checkpoints.texts.tokenize import Clean, TextTokenizer, canonicalize_text, keep_text, lower_text
from edgevit.checkpoints.texts.tower import CLIP_TEMPLATE, SIGLIP_TEMPLATE, TextPlan, read_number
from edgevit.core.errors import CheckpointError
from edgevit.models.model import Model
from edgevit.models.text_tower import TextConfig

_NAMES = Names(
    {
        "tokens.weight": ("token_embedding.weight",),
        "positions": ("positional_embedding",),
        **nest("blocks.{i}.", ["transformer.resblocks.{i}."], TEXT_BLOCK),
        "norm.*": ("ln_final.*",),
        "projection.*": ("text_projection.*",),
    },
    prefixes=("text.",),
)
_POOLS = {"argmax": "highest", "eos": "end", "last": "last"}
_CLEANS: Mapping[str, Clean] = {"canonicalize": canonicalize_text, "lower": lower_text, "whitespace": keep_text}
_BESIDE = ("logit_scale", "logit_bias")


def has_tower(files: CheckpointFiles) -> bool:
    """Whether there is a text tower beside the image tower, and a configuration that describes it."""
    return CONFIG_FILE in files.configs and any(_NAMES.strip(n).startswith("token_embedding.") for n in _take(files))


def describe_tower(files: CheckpointFiles, model: Model, tokenizer: TextTokenizer) -> TextPlan:
    """What the configuration says of the text tower.

    Raises:
        CheckpointError: It says something that is not possible or not supported.
    """
    where = f"{files.source}/{CONFIG_FILE}"
    outer = Fields(Fields(files.configs[CONFIG_FILE], where).mapping("model_cfg"), where)
    fields = Fields(outer.mapping("text_cfg"), f"{where}, text_cfg")
    tensors, stored = _take(files), fields.data
    refuse_parts(_list_unsupported(stored), f"{fields.where} describes")
    bias = tensors.get("logit_bias")
    width = fields.integer("width", 512)
    causal = not fields.flag("no_causal_mask", False)
    pool = _POOLS[fields.text("pool_type", "argmax")]
    projected = any(_NAMES.strip(name).startswith("text_projection") for name in tensors)
    config = fields.finish(
        TextConfig,
        vocabulary=fields.integer("vocab_size", 49408, high=2**20),
        context=fields.integer("context_length", 77),
        width=width,
        depth=fields.integer("layers", 12, high=512),
        heads=fields.integer("heads", 8),
        mlp_width=int(width * fields.number("mlp_ratio", 4.0)),
        embedding=model.config.features,
        projection=projected,
        projection_bias=fields.flag("proj_bias", False),
        activation=_choose_activation(outer, fields, model),
        norm_eps=Fields(fields.mapping("norm_kwargs"), fields.where).number("eps", 1e-5),
        causal=causal,
        pool=pool,
        end=fields.integer("eos_id", 2, low=0),
    )
    return TextPlan(
        config=config,
        names=_NAMES,
        tensors=_arrange(tensors),
        scale=read_number(tensors, "logit_scale", files.source),
        bias=None if bias is None else read_number(tensors, "logit_bias", files.source),
        template=CLIP_TEMPLATE if bias is None else SIGLIP_TEMPLATE,
        clean=_CLEANS[_read_clean(stored)],
        pad=None if causal and pool != "last" else _choose_pad(tokenizer, stored, files.source),
    )


def _take(files: CheckpointFiles) -> dict[str, Tensor]:
    return {
        n: t for n, t in files.contents.tensors.items() if not n.startswith("visual.") and not n.endswith("attn_mask")
    }


def _arrange(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tower's own, with the projection as a Linear's weight."""
    own = {}
    for name, value in tensors.items():
        if name in _BESIDE:
            continue
        turned = _NAMES.strip(name) == "text_projection" and value.ndim == 2
        own[f"{name}.weight" if turned else name] = value.T if turned else value
    return own


def _list_unsupported(text: Mapping[str, Any]) -> list[str]:
    found = []
    if text.get("hf_model_name"):
        found.append(f"a text tower of transformers, {text['hf_model_name']}")
    if text.get("pool_type", "argmax") not in _POOLS:
        found.append(f"pool_type = {text['pool_type']!r}")
    if text.get("tokenizer_mode"):
        found.append(f"tokenizer_mode = {text['tokenizer_mode']!r}")
    found += [f"{key} = true" for key in ("embed_cls", "scaled_cosine_attn", "qk_norm", "scale_heads") if text.get(key)]
    kwargs = text.get("tokenizer_kwargs") or {}
    found += [f"tokenizer_kwargs, {key} = {value!r}" for key, value in kwargs.items() if key != "clean" and value]
    if _read_clean(text) not in _CLEANS:
        found.append(f"tokenizer_kwargs, clean = {kwargs.get('clean')!r}")
    return found


def _read_clean(text: Mapping[str, Any]) -> str:
    """open_clip's own tokenizer, CLIP's, makes lower case; those of transformers do what their files say."""
    default = "whitespace" if text.get("hf_tokenizer_name") else "lower"
    return str((text.get("tokenizer_kwargs") or {}).get("clean", default))


def _choose_activation(model_cfg: Fields, text: Fields, model: Model) -> str:
    if model_cfg.flag("quick_gelu", False) or model.config.activation == "quick_gelu":
        return "quick_gelu"
    return "gelu_tanh" if text.mapping("act_kwargs").get("approximate") == "tanh" else "gelu"


def _choose_pad(tokenizer: TextTokenizer, text: Mapping[str, Any], source: str) -> int:
    """open_clip's own tokenizer fills up with zeros, those of transformers with their own token."""
    if not text.get("hf_tokenizer_name"):
        return 0
    if tokenizer.pad is None:
        raise CheckpointError(
            f"{source} does not say which token its texts are filled up with",
            "put the tokenizer_config.json that was published with these weights beside tokenizer.json",
        )
    return tokenizer.pad
