"""The guest book, a form of a page."""

from httpx import AsyncClient


async def test_mistakes_are_shown_beside_what_was_typed(client: AsyncClient) -> None:
    answer = await client.post("/guestbook", data={"name": "<Ada>", "stars": "many"})

    assert answer.status_code == 422
    assert 'value="&lt;Ada&gt;"' in answer.text
    assert "<strong>Input should be a valid integer" in answer.text


async def test_a_guest_is_greeted_once(client: AsyncClient) -> None:
    answer = await client.post("/guestbook", data={"name": "Ada", "stars": "5"})

    assert answer.status_code == 303
    for is_greeted in (True, False):
        page = await client.get(answer.headers["location"])
        assert ("Thank you, Ada." in page.text) is is_greeted
        assert "<li>Ada: 5</li>" in page.text


async def test_what_is_no_form_is_refused(client: AsyncClient) -> None:
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await client.post("/guestbook", content="none", headers=broken)).status_code == 400
    assert (await client.post("/guestbook", data={"name": "x" * 2_000_000})).status_code == 413
