"""Ratings and corrections to a request that was answered here.

What enters: the checked body and who sent it. What leaves: a row in the records, with its consent, that
`improve.harvest` reads. Who sent it is kept, so that a harvest can cap what one client contributes.
"""

from __future__ import annotations

from volant.core.errors import DataError
from volant.serving.limits import FeedbackBody
from volant.serving.service import Service
from volant.serving.shapes import ApiError


def give(service: Service, body: FeedbackBody, *, client: str, consent: str = "") -> dict[str, object]:
    """Keep one piece of feedback; waits for the disk, because what was acknowledged must not be lost.

    Args:
        client: as the door named it.
        consent: of the header; the body's own goes before it.

    Raises:
        ApiError: 404 for a request that is not on record, 503 where nothing is recorded.
    """
    if service.records is None:
        raise ApiError(503, "This server keeps no records.", code="no_records")
    service.ledger.flush()  # the request itself may still be on its way to the disk
    try:
        row = service.records.add_feedback(
            body.request_id,
            client=client,
            rating=body.thumbs,
            correction=body.correction,
            consent=body.consent or consent,
        )
    except (DataError, LookupError):
        what = "No request with that id was answered here, or its time was over."
        raise ApiError(404, what, code="request_not_found", param="request_id") from None
    service.meter.feedback(body.thumbs)
    return {"object": "feedback", "id": str(row), "request_id": body.request_id, "rating": body.thumbs}
