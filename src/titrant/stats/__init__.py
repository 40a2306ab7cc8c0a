"""Statistics of a study: contrasts, intervals, families of doses, cross-fitted gains, power. Free of torch.

The layers inside: `table` holds scores, `contrasts` turns them into moments and spreads, `family` makes intervals
simultaneous, `crossfit` removes the luck of choosing, `weigh` puts the numbers of a family together, `power` looks
ahead and `judge` reads files. The rule that turns numbers into a verdict is `titrant.decision.rule`.
"""
