import subprocess
import sys

LOADED = """
import sys
import web.app
from web.app import build_pages
from web.tabs import account, admin, ask, batch, results, review
from web import api
heavy = {"torch", "transformers", "sentence_transformers", "sklearn", "celery", "workers"} & set(sys.modules)
print(sorted(heavy))
"""


def test_the_web_process_loads_no_language_model_and_no_worker():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
