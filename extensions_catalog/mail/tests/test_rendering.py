"""From templates and a payload to what a mail says."""

from typing import Any

import pytest
from jinja2 import ChoiceLoader, DictLoader

from app.core.templates import templates
from app.extensions.mail.rendering import RenderingError, has_template, render

PAYLOAD = {"order": 7, "name": "Ada", "day": "Monday"}


@pytest.fixture
def broken_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "mail/no-subject.txt": "Dear {{ name }}\n\ntext\n",
        "mail/no-empty-line.txt": "Subject: Order\nDear {{ name }}\n",
        "mail/no-syntax.txt": "Subject: Order\n\n{% if name %}\n",
        "mail/no-include.txt": "Subject: Order\n\n{% include 'mail/absent.txt' %}\n",
        "mail/no-sum.txt": "Subject: Order\n\n{{ order / 0 }}\n",
        "mail/no-html.txt": "Subject: Order\n\ntext\n",
        "mail/no-html.html": "<p>{{ nmae }}</p>",
        "mail/too-large.txt": "Subject: Order\n\n{{ 'x' * 1000001 }}\n",
    }
    there = templates.env.loader
    assert there is not None
    monkeypatch.setattr(templates.env, "loader", ChoiceLoader([DictLoader(files), there]))


class TestRefusals:
    @pytest.mark.parametrize("missing", ["order", "name", "day"])
    def test_a_value_that_the_payload_lacks(self, missing: str) -> None:
        payload = {name: value for name, value in PAYLOAD.items() if name != missing}
        with pytest.raises(RenderingError, match=f"mail/shop.order-shipped.txt: .*'{missing}'"):
            render("shop.order-shipped", payload)

    @pytest.mark.usefixtures("broken_templates")
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "no-subject",
                "mail/no-subject.txt: ValueError: the first line has to be `Subject: …`",
            ),
            ("no-empty-line", "mail/no-empty-line.txt: ValueError: .*and the second one empty"),
            ("no-syntax", "mail/no-syntax.txt: TemplateSyntaxError"),
            ("no-include", "mail/no-include.txt: TemplateNotFound: mail/absent.txt"),
            ("no-sum", "mail/no-sum.txt: ZeroDivisionError"),
            ("no-html", "mail/no-html.html: UndefinedError: 'nmae' is undefined"),
            ("too-large", "a mail of more than 1000000 characters"),
        ],
    )
    def test_a_template_that_is_broken(self, name: str, message: str) -> None:
        with pytest.raises(RenderingError, match=message):
            render(name, PAYLOAD)


class TestRender:
    def test_text_and_html(self) -> None:
        content = render("shop.order-shipped", PAYLOAD)
        assert content.subject == "Order 7 is on its way"
        assert content.text == "Dear Ada,\nit comes on Monday.\n"
        assert content.html == "<p>Dear Ada, it comes on <b>Monday</b>.</p>"

    def test_the_html_is_optional(self) -> None:
        content = render("shop.order-cancelled", PAYLOAD)
        assert content.html is None
        assert content.text == "As you wished.\n"

    def test_values_are_escaped_in_the_html_alone(self) -> None:
        content = render("shop.order-shipped", PAYLOAD | {"name": "<b>Ada</b> & Co."})
        assert content.text.startswith("Dear <b>Ada</b> & Co.,")
        assert "Dear &lt;b&gt;Ada&lt;/b&gt; &amp; Co.," in (content.html or "")

    @pytest.mark.parametrize(
        ("order", "subject"),
        [
            ("7\r\nBcc: eve@example.com", "Order 7 Bcc: eve@example.com is on its way"),
            ("7\n\nfirst line of the text", "Order 7 first line of the text is on its way"),
            ("7\x00\x1b\x85\u2028 ", "Order 7 is on its way"),
            ("für Zoë 👩‍🚀", "Order für Zoë 👩‍🚀 is on its way"),
            ("7" * 300, "Order " + "7" * 244),
        ],
    )
    def test_no_value_leaves_the_subject(self, order: str, subject: str) -> None:
        content = render("shop.order-shipped", PAYLOAD | {"order": order})
        assert content.subject == subject
        assert content.text.startswith("Dear Ada")

    def test_a_template_is_what_its_file_says_now(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def loader(text: str) -> DictLoader:
            return DictLoader({"mail/news.txt": f"Subject: News\n\n{text}\n"})

        monkeypatch.setattr(templates.env, "loader", loader("old"))
        assert render("news", {}).text == "old\n"
        monkeypatch.setattr(templates.env, "loader", loader("new"))
        assert render("news", {}).text == "new\n"


class TestHasTemplate:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("shop.order-shipped", True),
            ("mail.test-requested", True),
            ("shop.nothing", False),
            ("outbox", False),  # a page of that name there is
            ("../mail/shop.order-shipped", False),
        ],
    )
    def test_tells_by_the_text(self, name: str, expected: bool) -> None:
        assert has_template(name) is expected

    def test_finds_those_of_the_service_itself(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        assert not has_template("orders.paid")
        (tmp_path / "mail").mkdir()
        (tmp_path / "mail/orders.paid.txt").write_text("Subject: Paid\n\nThank you.\n")
        loader: Any = templates.env.loader.loaders[1]  # type: ignore[union-attr]
        monkeypatch.setattr(loader, "searchpath", [*loader.searchpath, str(tmp_path)])
        assert render("orders.paid", {}).text == "Thank you.\n"
