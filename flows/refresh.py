"""What learning and judging begin with: the whole log is in the lake, validated, and counted in the features."""

from flows.ingest import ingest
from flows.materialize import materialize
from flows.validate import validate


def refresh(features: bool = True) -> None:
    """Run the steps of ingest, validate and (unless told not to) materialize inside the flow at hand.

    A batch that breaks its expectations is a verdict, not an error: whoever reads the events then demands that they
    passed.
    """
    ingest.fn()
    validate.fn()
    if features:
        materialize.fn()
