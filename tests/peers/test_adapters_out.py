"""Our worlds in other people's trainers: TRL trains in one, verifiers loads, plays and scores one."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted import score

from nanoschool import envs
from nanoschool.envs.adapters.to_trl import environment, rows
from nanoschool.types import UserError

pytestmark = pytest.mark.peers
OURS = """
from nanoschool.envs import load
from nanoschool.envs.adapters.to_vf import taskset

OurTaskset, OurEnv = taskset(load("{world}"), count=6)
__all__ = ["OurTaskset", "OurEnv"]
"""


def needs(module: str) -> Any:
    return pytest.importorskip(module, reason=f"{module} is absent; `make peers` installs it")


# TRL


def test_trl_trains_a_step_in_our_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trl, transformers, datasets = needs("trl"), needs("transformers"), needs("datasets")
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from nanoschool.core.tokenizer import Tokenizer

    template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text("utf-8")
    Tokenizer.train(["the cat sat on the mat, a=3\n"] * 30, 300).save(tmp_path / "tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    tokenizer.chat_template, tokenizer.pad_token = template, tokenizer.eos_token
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Qwen3Config(vocab_size=len(tokenizer), num_key_value_heads=1, head_dim=16, **shape)
    asked: list[str] = []
    played = environment(envs.load("chain"), count=2)

    class Watched(played):
        def reset(self, **row: Any) -> str:
            asked.append(super().reset(**row))
            return asked[-1]

    trainer = trl.GRPOTrainer(
        model=transformers.Qwen3ForCausalLM(config),
        processing_class=tokenizer,
        environment_factory=Watched,
        train_dataset=datasets.Dataset.from_list(rows(2)),
        args=trl.GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=8,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        ),
    )
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert log and log[0]["reward"] == 0.0  # nobody called the tool, so nobody earned
    task = envs.load("chain").tasks("train", 2)
    assert len(asked) >= 4 and set(asked) <= {next(envs.load("chain").play(each)).text for each in task}


# verifiers


def agents_that_say(replies: list[str], heard: list[str]) -> Any:
    """What `Env.run` is handed, with the replies already known."""

    @asynccontextmanager
    async def interaction(task: Any):
        said = iter(replies)

        async def turn(text: str | None = None) -> Any:
            heard.append(task.data.prompt if text is None else text)
            reply = next(said, None)
            return SimpleNamespace(last_reply=reply, terminated=reply is None)

        yield SimpleNamespace(turn=turn)

    return SimpleNamespace(player=SimpleNamespace(interaction=interaction))


@pytest.mark.parametrize("name", ["chain", "desk"])
def test_verifiers_loads_plays_and_scores_our_world(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vf = needs("verifiers.v1")
    (tmp_path / f"our_{name}.py").write_text(OURS.format(world=name))
    monkeypatch.syspath_prepend(tmp_path)
    world = envs.load(name)
    taskset = vf.load_taskset(vf.TasksetConfig(id=f"our_{name}"))
    theirs = list(taskset)
    assert len(theirs) == 6 and [task.data.idx for task in theirs] == list(range(6))
    played = vf.environment_class(f"our_{name}")
    for task, mine in zip(theirs, world.tasks("test", 6), strict=True):
        replies = [message.content for message in world.demonstration(mine) if message.role == "assistant"]
        asked = [message.content for message in world.demonstration(mine) if message.role != "assistant"]
        assert task.data.prompt == asked[0]
        heard: list[str] = []
        asyncio.run(played.run(SimpleNamespace(), task, agents_that_say(replies, heard)))
        assert heard == asked
        for said, reward in ((replies, score(world, mine, *replies)), (["nonsense"] * 9, 0.0), ([], 0.0)):
            nodes = [vf.MessageNode(message=vf.UserMessage(content=task.data.prompt))]
            for reply in said:
                message = vf.AssistantMessage(content=reply)
                nodes.append(vf.MessageNode(message=message, parent=len(nodes) - 1, sampled=True))
            of = vf.TraceTask(type="NanoschoolTask", data=task.data)
            trace = vf.Trace(task=of, agent=vf.AgentInfo(config=vf.AgentConfig()), nodes=nodes)
            asyncio.run(task.score(trace, None))
            assert trace.reward == reward


def test_our_single_turns_go_out_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("verifiers.v1")
    (tmp_path / "our_sums.py").write_text(OURS.format(world="sums").replace("count=6", "count=60"))
    monkeypatch.syspath_prepend(tmp_path)
    back, sums = envs.load("vf:our_sums"), envs.load("sums")
    shown = {}
    for task in sums.tasks("test", 60):
        asked, answer = sums.demonstration(task)
        shown[asked.content] = answer.content
    for task in back.tasks("train", 20):
        assert score(back, task, shown[next(back.play(task)).text]) == 1.0
        assert score(back, task, "#### 1") == 0.0


def test_a_world_that_cannot_be_replayed_is_no_taskset() -> None:
    needs("verifiers.v1")
    from nanoschool.envs.adapters.openenv import OpenEnv
    from nanoschool.envs.adapters.to_vf import taskset

    with pytest.raises(UserError, match="cannot be replayed"):
        taskset(OpenEnv("http://127.0.0.1:1"))
