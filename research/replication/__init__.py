"""The two studies as a grid of runs whose scores live in the repository, and what is found from them.

kept         one Parquet file a run: its scores, and beside them all that names the run
grid         what is to run, what is kept already, and running the rest; interrupted and resumed, across machines
claims       the claims as they were registered before any run, and the rule that judges them
findings     docs/findings.md from kept scores alone
"""
