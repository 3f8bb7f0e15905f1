"""TRL 1.12.0's PPO on what benchmarks/ppo.py has prepared: a line of JSON a round. It runs in an environment of its own.

    build/ppo-oracle/bin/python benchmarks/ppo_oracle.py FOLDER SEED
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.modeling_outputs import BaseModelOutput
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Scorer(torch.nn.Module):
    """The reward model in the shape that TRL asks for: a body whose last hidden state is, everywhere, the score."""

    base_model_prefix = "body"

    def __init__(self, body, words, score, opening: list[int]):
        super().__init__()
        self.inner, self.opening = body, opening
        self.register_buffer("words", words)
        self.register_buffer("head", score)
        self.score = torch.nn.Identity()

    def body(self, input_ids, attention_mask, **_):
        """(B, L), padded left and right → hidden_states[-1] (B, L, 1)."""
        rows = [ids[mask.bool()] for ids, mask in zip(input_ids, attention_mask, strict=True)]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # flush left
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        hidden = self.inner(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        width = len(self.opening)
        found = (ids.unfold(1, width, 1) == torch.tensor(self.opening)).all(-1)
        start = (found * (torch.arange(found.shape[1]) + 1)).amax(1) - 1 + width
        wanted = ((torch.arange(ids.shape[1]) >= start[:, None]) & mask.bool())[:, 1:]
        logps = (hidden[:, :-1][wanted] @ self.words.T).log_softmax(-1).gather(1, ids[:, 1:][wanted][:, None])[:, 0]
        grid = torch.zeros(wanted.shape).masked_scatter(wanted, logps)
        end = hidden[torch.arange(len(hidden)), mask.sum(1) - 1]
        mean = grid.sum(1) / wanted.sum(1).clamp(min=1)
        seen = torch.cat([end / end.shape[1] ** 0.5, mean[:, None], grid.amin(1)[:, None]], 1)
        scores = seen @ self.head.T  # (B, 1)
        return BaseModelOutput(hidden_states=(scores[:, None, :].expand(-1, input_ids.shape[1], -1),))


class Telling(PPOTrainer):
    """Tells of each round."""

    clock = 0.0

    def log(self, logs, *_, **__):
        """Score, KL, share that ended, CPU-seconds, memory."""
        told = {"score": logs["objective/scores"], "kl": logs["objective/kl"],
                "ended": logs["val/num_eos_tokens"] / self.args.batch_size, "cpu": time.process_time() - self.clock,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
        print(json.dumps(told), flush=True)


def main() -> None:
    """One training."""
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    cfg, prompts = json.loads((folder / "settings.json").read_text()), json.loads((folder / "prompts.json").read_text())
    torch.set_num_threads(cfg["threads"])
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy", padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(folder / "policy", dtype=torch.float32)
    value = AutoModelForSequenceClassification.from_pretrained(folder / "policy", num_labels=1, dtype=torch.float32)
    lora = cfg["lora"]
    targets = {"r": lora["r"], "lora_alpha": lora["alpha"], "lora_dropout": 0.0, "target_modules": lora["targets"]}
    inject_adapter_in_model(LoraConfig(**targets, task_type="SEQ_CLS"), value)
    value.score = torch.nn.Linear(value.config.hidden_size, 1)
    torch.nn.init.zeros_(value.score.weight)
    torch.nn.init.constant_(value.score.bias, cfg["value"])
    body = AutoModel.from_pretrained(folder / "reward", dtype=torch.float32)
    words, head = policy.get_output_embeddings().weight.detach().clone(), load_file(folder / "score.safetensors")["score"]
    scorer = Scorer(body, words, head, cfg["opening"])
    with tempfile.TemporaryDirectory() as out:
        args = PPOConfig(
            output_dir=out, seed=seed, report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False,
            disable_tqdm=True, per_device_train_batch_size=cfg["rollout"], gradient_accumulation_steps=1,
            num_mini_batches=cfg["rollout"] // cfg["batch"], total_episodes=cfg["rounds"] * cfg["rollout"],
            num_ppo_epochs=cfg["passes"], learning_rate=cfg["learning_rate"], kl_coef=cfg["beta"], gamma=cfg["discount"],
            lam=cfg["trace"], cliprange=cfg["clip"], cliprange_value=cfg["value_clip"], temperature=cfg["temperature"],
            missing_eos_penalty=cfg["missing_end"] or None, response_length=cfg["tokens"], stop_token="eos",
            num_sample_generations=0, local_rollout_forward_batch_size=64, save_strategy="no")
        asked = Dataset.from_dict({"input_ids": prompts})
        trainer = Telling(
            args=args, processing_class=tokenizer, model=policy, ref_model=None, reward_model=scorer, value_model=value,
            train_dataset=asked, eval_dataset=asked.select(range(8)), peft_config=LoraConfig(**targets, task_type="CAUSAL_LM"))
        trainer.clock = time.process_time()
        trainer.train()


if __name__ == "__main__":
    main()
