"""The kill test once more around the real engine: a tiny language model with random weights, a real router."""

import os
import signal
from pathlib import Path

from deploy.stack import Commands
from medx_core.data.routing_texts import training_texts
from medx_core.jobs.status import ItemStatus, JobKind
from medx_core.questions import Mode
from medx_core.routing.encoders import load_encoder
from medx_core.routing.heads import head_path, save_head
from medx_core.routing.training import train_embedding_router
from tests.faults.harness import BOTH, installation
from tests.language_models import tiny_network, word_tokenizer


def prepare(home: Path) -> Path:
    """Store a tiny model and a router trained on a few texts under `home`; return the model's folder."""
    folder = home / "tiny"
    tiny_network("llama").save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    encoder = load_encoder()
    head = train_embedding_router(training_texts()[::15], encoder)
    save_head(head, head_path(home / "routers", encoder.sha256))
    return folder


def test_killing_a_real_worker_in_the_middle_of_a_file_loses_and_doubles_nothing(tmp_path: Path) -> None:
    model = prepare(tmp_path)
    texts = [f"Statement {number}: the patient is well." for number in range(120)]
    with installation(
        tmp_path, commands=Commands(), model=str(model), worker_threads=2, threads=1
    ) as running:
        job_id = running.submit(texts)
        before = running.wait_until(job_id, lambda progress: progress.answered >= 16, "16 rows are answered")
        os.kill(running.stack.process_ids["worker"], signal.SIGKILL)
        assert before.answered < 120
        running.wait_finished(job_id)
        items = running.items(job_id)
        assert {item.status for item in items} == {ItemStatus.ANSWERED}
        assert {tuple(stored.answer.arm for stored in item.answers) for item in items} == {BOTH}
        assert max(item.attempts for item in items) == 2, "the kill hit no row in hand"
        asked = running.submit(["Write something."], kind=JobKind.QUESTION, mode=Mode.TEXT)
        running.wait_finished(asked)
        [question] = running.items(asked)
        assert [stored.answer.tokens is not None for stored in question.answers] == [True, True]
        assert question.route is not None
        assert sum(question.route.probabilities.values()) > 0.99
