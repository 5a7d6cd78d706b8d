"""Hidden states computed by transformers on PyTorch, which the project does not depend on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .architectures import CASES, Array, Case, feeds, rows, weights

__all__ = ["compute_states", "versions"]


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute."""
    import torch
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__}


def compute_states() -> Iterator[tuple[str, Array]]:
    """Yield the states of all cases; see :func:`support.architectures.expected`."""
    for name, case in CASES.items():
        model = _load(case)
        for t in case.lengths:
            states = _run(model, case, t)
            yield f"{name}/{t}", states[:, list(rows(t))]


def _load(case: Case) -> Any:
    """Return a model in float32, with attention as in the papers."""
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "config.json").write_text(json.dumps(case.config), "utf-8")
        config = transformers.AutoConfig.from_pretrained(directory)
    config._attn_implementation = "eager"
    model = transformers.AutoModel.from_config(config).eval()
    tensors = {name: torch.from_numpy(value) for name, value in weights(case.config).items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    # Without a pooler, which no hidden state depends on.
    left_out = [name for name in missing if not name.startswith("pooler.")]
    assert not left_out, left_out
    assert not unexpected, unexpected
    return model


def _run(model: Any, case: Case, t: int) -> Array:
    """Return ``(1 + layers, t, hidden_size)``: the embeddings and all hidden layers."""
    import torch

    ids, types, mask = (torch.from_numpy(x.astype(np.int64)) for x in feeds(case, t))
    inputs = {"input_ids": ids, "attention_mask": mask}
    if case.config.get("type_vocab_size") and case.model_type not in ("mpnet", "modernbert"):
        inputs["token_type_ids"] = types
    with torch.inference_mode():
        output = model(**inputs, output_hidden_states=True)
    # All layers inside ALBERT's groups are reported.
    states = list(output.hidden_states)[:: case.config.get("inner_group_num", 1)]
    states[-1] = output.last_hidden_state  # with ModernBERT's final norm in any version
    return np.stack([state[0].numpy() for state in states])
