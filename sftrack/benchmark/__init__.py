"""Trackers over whole data sets without a screen: suites -> entrants -> plan -> engine (a runner in each worker) -> results -> scores.

suites.py    which sequences a benchmark has, and which of them lie on this disk
entrants.py  what `--tracker` names: a preset, one channel of it, a registered tracker, a settings file, a replay
plan.py      which sequences each entrant has still to do
runner.py    one entrant over one sequence, frame by frame
results.py   the files of a run: where they lie, how they are written and read
settings.py  what a run was made with: kept beside its results, compared before it goes on
jobs.py      the engines: jobs one after the other, or in worker processes
ray_engine.py  the engine for many machines
mirror.py    results at an address instead of in a folder
progress.py  what the user sees while it runs, on a terminal or as JSON
scores.py    results against truth: per sequence, per attribute, overall, speed
ablation.py  the variants of the paper's Table 9
boards.py    all results of a benchmark side by side
foreign.py   results as other toolkits have written them
grids.py     tables without a format: of a benchmark, of the paper with ours beside the published figures
tables.py    tables as text, CSV, LaTeX
plots.py     success, precision and attribute plots
page.py      the report as one HTML file
report.py    the files of a report
export.py    results as the tools and servers of others take them
guest.py     one entrant in somebody else's harness: got10k.py for the GOT-10k toolkit, vot.py for VOT's (TraX)
commands.py  `sftrack bench run | check | ablate | report | compare | export`
"""
