#!/usr/bin/env bash
# quantulum3 0.10.0 reads millimoles as metres times moles, and divides a blood pressure.
#
# Guess: a library that finds quantities in English text reads "glucose 2.1 mmol/L" as 2.1 thousandths of a mole per litre,
# "BP 90/50 mmHg" as two pressures (or none), "10-15 mg" as a range, and leaves a unit open where it does not know it.
# Behaviour: "mmol" is not among its units and is taken apart into "m" and "mol": metre times mole. The number stays as it
# is, and nothing marks the compound as unknown. "umol/L" becomes atomic mass unit times mole per litre. So
# "2.1 mmol/L" and "2.1 mol/L" differ in no number and in a unit that no conversion knows. "90/50 mmHg" is read as a fraction:
# 1.8 millimetres of mercury. "10-15 mg" is 12.5 mg (with an uncertainty of 2.5), "12,5 mg" is 12 and 5 mg. Degrees need the
# word: "Temp 39.6 C" is coulomb, "Temperature 103 F" is farad, as the plain installation has no classifier; that much it warns of.
# Seen: the lines that this prints (EXPECTED below). g/dL, mcg and "39.6 degrees Celsius" are read rightly.
# Consequence: rules on vital signs and laboratory values that stand on it ("systolic below 90", "potassium above 6.5 mmol/L")
# compare with 1.8, or look up a unit that is never there, and stay silent.
set -eu
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check quantulum3==0.10.0 2>/dev/null
cat >check.py <<'PYTHON'
import sys
import warnings

warnings.simplefilter("ignore")
from quantulum3 import parser

EXPECTED = {
    "glucose 2.1 mmol/L": [(2.1, "metre mole per litre")],
    "glucose 2.1 mol/L": [(2.1, "mole per litre")],
    "creatinine 450 umol/L": [(450.0, "atomic mass unit mole per litre")],
    "BP 90/50 mmHg": [(1.8, "millimeter of mercury")],
    "give 10-15 mg": [(12.5, "milligram")],
    "give 12,5 mg": [(12.0, "dimensionless"), (5.0, "milligram")],
    "Temp 39.6 C": [(39.6, "coulomb")],
    "Temperature 103 F since last night": [(103.0, "farad")],
    "Temp 39.6 degrees Celsius": [(39.6, "degree Celsius")],
    "Hb 6.1 g/dL": [(6.1, "gram per decilitre")],
    "took 50 mcg levothyroxine": [(50.0, "microgram")],
}
same = True
for text, expected in EXPECTED.items():
    read = [(round(quantity.value, 6), quantity.unit.name) for quantity in parser.parse(text)]
    print(f"{text!r}: {read}")
    same = same and read == expected
sys.exit(0 if same else 1)
PYTHON
venv/bin/python check.py 2>log || { tail -5 log; echo "This has changed."; exit 1; }
