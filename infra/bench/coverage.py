"""Off-policy intervals and refusals over worlds whose truth is known."""

from infra.bench.record import Figure, at_least, just
from models.evaluation.offpolicy.proofs import CLAIMS, COVERED, LEAST_REFUSED, WORLDS, Claim, Tally, prove


def measure(seed: int, worlds: int = WORLDS) -> list[Figure]:
    """Every claim's figures over so many worlds each."""
    return [figure for claim in CLAIMS for figure in _figures(claim, prove(claim.shape, claim.flaw, worlds, seed))]


def _figures(claim: Claim, tallies: dict[str, Tally]) -> list[Figure]:
    flaw = "assumptions hold" if claim.flaw == "none" else claim.flaw
    return [
        figure
        for name, tally in tallies.items()
        for figure in _of_estimator(f"3 {claim.shape}, {flaw}: {name}", name, claim, tally)
    ]


def _of_estimator(where: str, name: str, claim: Claim, tally: Tally) -> list[Figure]:
    covered, error = round(tally.covered, 4), f"mean error {tally.bias:+.4f}"
    width = just(f"{where}, mean width of its intervals", tally.width, error)
    if name in claim.covers:
        low, high = COVERED
        note = f"{low:.2f} to {high:.2f}, of {tally.worlds} worlds"
        found = Figure(f"{where} covers the truth", covered, low, low <= covered <= high, note)
        return [found, width, just(f"{where} refused all the same", tally.refused)]
    if name in claim.refuses:
        note = f"of {tally.worlds} worlds; its intervals would cover {covered:.3f}, {error}"
        return [at_least(f"{where} refused", tally.refused, LEAST_REFUSED, note)]
    note = f"of {tally.worlds} worlds; nothing is promised here"
    return [just(f"{where} covers the truth", covered, note), width, just(f"{where} refused", tally.refused)]
