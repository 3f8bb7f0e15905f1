"""The starter's raw data: documents, instructions, prompts, preferences and evaluation sets of the Larkfield world.

`python -m starter.examples --out examples` writes all of it; starter/DATA.md describes what comes out.
"""
