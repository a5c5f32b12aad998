"""Our DPO loss against TRL's own, where TRL is installed. Slow: importing it takes seconds."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from tiny_models import model, pairs
from volant.modalities import open_modality
from volant.nets import pair_losses, preference
from volant.nets.preference import Pairs
from volant.nets.transformer import family


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_the_loss_is_that_of_trl(tmp_path: Path, beta: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trl = pytest.importorskip("trl")
        found = model(tmp_path, steps=10)
        net, reference = family.load(found.path), family.load(found.path)
        with torch.no_grad():
            for weight in net.parameters():
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
        kept = pairs()[:6]
        ours = loss_of_ours(found.path, net, reference, kept, beta)
        theirs = loss_of_trl(trl, tmp_path, found.path, net, reference, kept, beta)
    assert ours == pytest.approx(theirs, abs=2e-4)


def loss_of_ours(folder: Path, net: Any, reference: Any, kept: list[Any], beta: float) -> float:
    codec: Any = open_modality("text").open_codec(folder)
    data = Pairs(preference.fitted(preference.encoded(codec, kept), 128), rows=6, seed=0, pad=codec.pad_id)
    with torch.no_grad():
        data.reference = preference.pair_logp(reference, data.in_order()[0])
        total, count = pair_losses.dpo_loss(beta=beta, anchor=0.0)(net, data.in_order()[0])
    return total.item() / count


def loss_of_trl(trl: Any, work: Path, folder: Path, net: Any, reference: Any, kept: list[Any], beta: float) -> float:
    from datasets import Dataset

    rows = [
        {
            "prompt": [{"role": "user", "content": s.condition}],
            "chosen": [{"role": "assistant", "content": s.target}],
            "rejected": [{"role": "assistant", "content": s.rejected}],
        }
        for s in kept
    ]
    settings = trl.DPOConfig(
        output_dir=str(work / "trl"), beta=beta, per_device_train_batch_size=6, bf16=False, use_cpu=True,
        gradient_checkpointing=False, report_to=[], disable_tqdm=True, max_steps=1,
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        model=net, ref_model=reference, args=settings, train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, batch)
    return float(loss.item())
