"""Names in the bucket."""

from uuid import UUID

import pytest

from app.extensions.storage.keys import new_key, object_id_in

ID = UUID("0b3c7f0e-6f57-4b7c-9d3e-0f6f1f2f3a4b")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "local/",
        "local/notes.txt",
        str(ID),
        f"production/{ID}.pdf",
        f"local/{str(ID).upper()}.pdf",
        f"local/{ID.hex}.pdf",
        f"local/more/{ID}.pdf",
    ],
)
def test_what_this_service_cannot_have_put_there(key: str) -> None:
    assert object_id_in(key) is None


@pytest.mark.parametrize(
    ("content_type", "extension"),
    [("application/pdf", ".pdf"), ("image/jpeg", ".jpg"), ("application/x-unheard-of", "")],
)
def test_the_extension_is_the_types(content_type: str, extension: str) -> None:
    key = new_key(ID, content_type)
    assert key == f"local/{ID}{extension}"
    assert object_id_in(key) == ID
