"""PEFT opens our adapters and computes what we do, on a Qwen3 and on a Llama."""

from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.peers
transformers = pytest.importorskip("transformers", reason="transformers is absent; `make peers` installs it")
peft = pytest.importorskip("peft", reason="peft is absent; `make peers` installs it")

from nanoschool.core import checkpoint  # noqa: E402
from nanoschool.core.config import Lora, ModelConfig  # noqa: E402
from nanoschool.core.lora import adapted  # noqa: E402
from nanoschool.core.model import GPT  # noqa: E402
from nanoschool.core.policy import Policy  # noqa: E402
from nanoschool.core.tokenizer import Tokenizer  # noqa: E402
from nanoschool.ledger import Ledger  # noqa: E402
from nanoschool.saving import Progress, write  # noqa: E402

TOKENIZER = Tokenizer.train(["a=3; b=a+4; c=b*2; c=? 14"] * 40, 300)


@pytest.mark.parametrize("qk_norm", [True, False], ids=["qwen3", "llama"])
@pytest.mark.parametrize("spec", [Lora(4, 32.0), Lora(2, 3.0, ("q_proj", "down_proj"))])
def test_peft_opens_an_adapter_and_gives_our_logits(qk_norm: bool, spec: Lora, tmp_path: Path) -> None:
    shape = {"width": 48, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 16, "hidden": 96}
    config = ModelConfig(vocab=TOKENIZER.vocab_size, context=64, qk_norm=qk_norm, tied=False, **shape)
    policy = Policy(GPT(config, seed=1), TOKENIZER, Ledger())
    write(policy, tmp_path, Progress("start"))
    checkpoint.point(tmp_path, "start", "start-000000")
    policy.model = adapted(policy.model, spec, seed=2)
    torch.manual_seed(3)
    with torch.no_grad():
        for p in policy.model.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape) * 0.1)
    name = write(policy, tmp_path, Progress("train"))
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "start", dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / name)
    tokens = torch.randint(0, config.vocab, (2, 40), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        ours = policy.model.logits(policy.model(tokens))
        torch.testing.assert_close(theirs(tokens).logits, ours, atol=1e-5, rtol=1e-5)
    whole = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(whole(tokens).logits, ours, atol=1e-5, rtol=1e-5)
