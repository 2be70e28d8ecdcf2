import subprocess
import sys

LOADED = """
import sys
import web.app
from web.app import build_pages
from web.tabs import account, admin, ask, batch, results, review
from web import api
from medx_core.data.patient_data import screened_text
from medx_core.settings import PatientDataRule
text, screening = screened_text("Mrs Ottilie Brandreth coughs. Xiomara Beltrán too.", PatientDataRule.MASK)
print(text, "onnxruntime" in sys.modules)
heavy = {"torch", "transformers", "sentence_transformers", "sklearn", "celery", "workers"} & set(sys.modules)
print(sorted(heavy))
"""


def test_the_web_process_loads_no_language_model_and_no_worker_even_to_mask_names():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["Mrs [removed] coughs. [removed] too. True", "[]"]
