"""What LoRA, its relatives and QLoRA share: adapters of a transformer, trained, saved by themselves, merged, compared.

Enters: a Model, a Dataset and PEFT's configuration of the adapters. Leaves: a Model with the adapters merged into its
weights at the root (opens with transformers alone) and the adapters by themselves in `adapter/` (open with peft on
the base; tokenizer and chat template lie beside them). Both are read back from the files and compared with what was
trained: a difference in the logits is refused.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from volant.core import Dataset, Model, Run, Score
from volant.core.errors import GateRefused, SettingError, did_you_mean

LARGEST_DIFFERENCE = 1e-3


def config_of(variant: str, rank: int, alpha: float, dropout: float, targets: str | list[str]) -> Any:
    """PEFT's configuration of a kind of adapter.

    Sources: LoRA (Hu et al. 2021), rsLoRA (Kalajdzievski 2023), DoRA (Liu et al. 2024), LoHa (Hyeon-Woo et al. 2022),
    LoKr (Edalati et al. 2022).

    Args:
        rank: 0 takes what is usual.
        alpha: 0 takes twice the rank.
        targets: `all-linear`, or names of layers.
    """
    from peft import LoHaConfig, LoKrConfig, LoraConfig

    from volant.nets.memory import RANK

    rank = rank or RANK
    strength: Any = alpha or 2 * rank
    shared: dict[str, Any] = {"r": rank, "target_modules": targets, "task_type": "CAUSAL_LM"}
    if variant in ("loha", "lokr"):
        kind = LoHaConfig if variant == "loha" else LoKrConfig
        return kind(alpha=strength, module_dropout=dropout, **shared)
    return LoraConfig(
        lora_alpha=strength, lora_dropout=dropout, use_rslora=variant == "rslora", use_dora=variant == "dora", **shared
    )


def learnt(
    run: Run, model: Model, data: Dataset, config: Any, budget: Any, told: Mapping[str, Any], *,
    retain: Dataset | None = None, judge: Model | None = None, four_bits: bool = False,
) -> Model:  # fmt: skip
    """Fine-tune adapters on the answers in `data`; settings as `lora`'s.

    Args:
        config: from `config_of`.
        budget: a `tuning.Budget`; a rate of 0 takes what suits the model's width.
        told: for the model's own record.
        retain, judge: see `lora`.
        four_bits: keep the base in 4 bits while it trains (embedding and head in 8, but where they get an adapter),
            and merge into what those bits say.
    """
    import torch

    from volant.nets import nf4
    from volant.nets.transformer import family
    from volant.stages.finetune import tuning

    net, codec = tuning.opened(run, model)
    rate = budget.lr or tuning.default_lr(net, 1e-4 if muon_rate(config, 1.0) else 2e-4)
    spent = replace(budget, lr=rate, muon=muon_rate(config, rate))
    _check_targets(run, net, config)
    task = tuning.prepare(run, net, codec, data, spent, retain)
    if four_bits:
        was = nf4.weight_bytes(net)
        nf4.quantise(net, but=lambda name: _targeted(config, name))
        share = nf4.weight_bytes(net) / was
        note = "weights that are held while it trains, over those in float32; norms and biases stay"
        run.score(Score.exact("weights_share", share, direction="lower", note=note))
    torch.manual_seed(run.seed)
    adapted = _adapted(net, config)
    outcome = tuning.tune(task, adapted)
    adapted = adapted.cpu().eval()
    probes = [batch.rows(0, 2) for batch in (task.looks or [task.batches.batch(0)])[:2]]
    wanted = _logits(adapted, probes)
    _save_adapter(adapted, run.out / "adapter", codec, model)
    family.save(nf4.merged(adapted) if four_bits else adapted.merge_and_unload(safe_merge=True), run.out)
    del net, adapted  # else two whole copies lie in memory
    beside = _beside(family.load(model.path).to(run.device), run.out / "adapter", config, four_bits)
    _check_same(run, wanted, _logits(beside, probes), "adapter_difference", "the adapter as saved")
    del beside
    merged = family.load(run.out)
    _check_same(run, wanted, _logits(merged, probes), "merge_difference", "the merged weights as saved")
    return tuning.finish(task, merged, model, data, outcome, {**told, "base": model.digest[:16]}, judge)


def muon_rate(config: Any, lr: float) -> float:
    """Muon's rate for LoRA's two matrices; 0 for what is no such product.

    Numbers of the second matrix (B) then move by `lr` a step, as under AdamW (Liu et al. 2025, "Muon is Scalable"),
    and those of the first by the root of rank over width as much: that B wants the higher rate is LoRA+'s finding
    (Hayou et al. 2024). All directions of the rank are used, and Muon keeps one moment where AdamW keeps two.
    """
    from peft import LoraConfig

    return float(lr * config.r**0.5) if isinstance(config, LoraConfig) else 0.0


def _check_targets(run: Run, net: Any, config: Any) -> None:
    """Refuse a layer that is not there, or whose weights another one has too: merged, its adapter would change both.

    Raises:
        SettingError: one was asked for.
    """
    import torch

    shared: dict[int, list[str]] = {}
    for name, layer in net.named_modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, torch.nn.Parameter) and weight.ndim > 1:  # a norm's vector has nothing of low rank
            shared.setdefault(id(weight), []).append(name)
    there = [name for names in shared.values() for name in names]
    for target in [] if isinstance(config.target_modules, str) else sorted(config.target_modules):
        if not any(f".{name}".endswith(f".{target}") for name in there):
            fix = did_you_mean(target, {name.rpartition(".")[2] for name in there})
            raise SettingError(f"`targets` names {target!r}, and no layer is called so.", where=run.step, fix=fix)
    for names in shared.values():
        asked = [name for name in names if len(names) > 1 and _targeted(config, name)]
        if asked:
            what = f"`targets` names {asked[0]}, whose weights are those of {names[names[0] == asked[0]]} as well"
            fix = "Leave it out; where it has to learn too, use `finetune.full`."
            raise SettingError(f"{what}, so that merging would change both.", where=run.step, fix=fix)


def _targeted(config: Any, name: str) -> bool:
    """Whether a layer of that name, which is none of the blocks', gets an adapter."""
    named = config.target_modules
    return not isinstance(named, str) and any(f".{name}".endswith(f".{target}") for target in named)


def _adapted(net: Any, config: Any) -> Any:
    """The network with fresh adapters.

    Raises:
        SettingError: there is no such kind of adapter for one of the layers, as of LoHa for GPT-2's.
    """
    from peft import get_peft_model

    with _peft():
        try:
            return get_peft_model(net, config)
        except (TypeError, ValueError) as error:
            what = f"adapters of this kind cannot be put in: {str(error).splitlines()[0]}."
            raise SettingError(what, where="variant", fix="Leave it out, or name other `targets`.") from error


@contextmanager
def _peft() -> Iterator[None]:
    """peft asks transformers by a name that will go in its next major version; its users cannot mend that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def _logits(net: Any, batches: Sequence[Any]) -> list[Any]:
    import torch

    with torch.no_grad():
        return [net(input_ids=b.ids, attention_mask=None if b.real is None else b.real.long()).logits for b in batches]


def _beside(net: Any, adapter: Path, config: Any, four_bits: bool) -> Any:
    """The base with the adapter that the files hold, as someone opens it who has peft and the base."""
    from peft import PeftModel

    from volant.nets import nf4

    if four_bits:
        nf4.quantise(net, but=lambda name: _targeted(config, name))
    with _peft():
        return PeftModel.from_pretrained(net.cpu().eval(), str(adapter)).eval()


def _check_same(run: Run, wanted: Sequence[Any], got: Sequence[Any], name: str, what: str) -> None:
    """State the largest difference between the logits that were trained and those of a form that was saved.

    Raises:
        GateRefused: the two are not the same model.
    """
    difference = max(float((a - b).abs().max()) for a, b in zip(wanted, got, strict=True))
    if not difference <= LARGEST_DIFFERENCE:
        said = f"the logits of {what} differ by {difference:.2g} from those that were trained."
        raise GateRefused(said, where=run.step, fix="Lower `lr` or `alpha`; the adapter has run away.")
    note = f"largest logit difference between what was trained and {what}"
    count = sum(int(a.numel()) for a in wanted)
    run.score(Score.exact(name, difference, n=count, direction="lower", note=note))


def _save_adapter(adapted: Any, folder: Path, codec: Any, model: Model) -> None:
    """The adapter in peft's format, without the base's place on this machine and in a fixed order.

    Beside it lie what prompts have to look like, with its hash, and the digest of the base that it belongs to.
    """
    adapted.peft_config["default"].base_model_name_or_path = ""
    adapted.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    body = json.loads(config.read_text(encoding="utf-8"))
    # peft keeps the names in a set, whose order changes from process to process.
    for name, value in body.items():
        if isinstance(value, list):
            body[name] = sorted(value)
    config.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    codec.save(folder)
    said = {"base": model.digest, "chat_template_sha256": str(getattr(codec, "template_sha256", ""))}
    (folder / "volant.json").write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")
