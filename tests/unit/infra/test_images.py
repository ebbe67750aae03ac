"""The image of a service is known by its digest, or not known yet."""

import pulumi

from infra.images import by_digest


def test_an_image_that_is_yet_to_be_built_is_not_known() -> None:
    # As docker-build answers in the preview of an update; policies refuse a tag, and pass over what is not known.
    assert by_digest("localhost:5000/estate/orders:dev") is pulumi.UNKNOWN
    built = f"localhost:5000/estate/orders:dev@sha256:{'a' * 64}"
    assert by_digest(built) == built
