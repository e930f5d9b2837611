"""The parts of python -m tasks.ablate: runs, controls, findings, tables, figures."""
