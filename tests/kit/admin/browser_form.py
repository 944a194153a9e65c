"""Reads a form from a page, and sends it as a browser does: everything that it shows."""

import json
import re
from html.parser import HTMLParser


class BrowserForm(HTMLParser):
    """The fields of a page's form with the values that a browser would send."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: list[tuple[str, str]] = []
        self._name = ""
        self._area: list[str] | None = None
        self._options: list[tuple[str, bool]] | None = None
        self._is_multiple = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        name = values.get("name") or ""
        if tag == "input" and name:
            self._input(name, values)
        elif tag == "textarea":
            self._name, self._area = name, []
        elif tag == "select":
            self._name, self._options = name, []
            self._is_multiple = "multiple" in values
            chosen = json.loads(values.get("data-json") or "[]")
            if values.get("data-role") == "select2-tags":
                self.fields += [(name, str(each)) for each in chosen]
            elif values.get("data-role") == "select2-ajax":
                self.fields += [(name, str(each["id"])) for each in chosen]
                self._options = None
        elif tag == "option" and self._options is not None:
            self._options.append((values.get("value") or "", "selected" in values))

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._area.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._area is not None:
            text = re.sub(r"\r\n?", "\n", "".join(self._area)).removeprefix("\n")
            self.fields.append((self._name, text.replace("\n", "\r\n")))
            self._area = None
        elif tag == "select" and self._options is not None:
            chosen = [value for value, is_selected in self._options if is_selected]
            if not chosen and not self._is_multiple:
                chosen = [value for value, _ in self._options[:1]]
            self.fields += [(self._name, value) for value in chosen]
            self._options = None

    def _input(self, name: str, values: dict[str, str | None]) -> None:
        kind = values.get("type") or "text"
        text = re.sub(r"[\r\n]", "", values.get("value") or "")
        if kind in ("submit", "file") or (kind == "checkbox" and "checked" not in values):
            return
        if kind == "number" and not re.fullmatch(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", text):
            text = ""
        if kind == "time" and not re.fullmatch(r"\d\d:\d\d(:\d\d(\.\d{1,3})?)?", text):
            text = ""
        self.fields.append((name, text))

    def sent(self, **typed: str | list[str]) -> dict[str, list[str]]:
        """What is sent when these values are typed over those that are shown."""
        form: dict[str, list[str]] = {"save": ["Save"]}
        for name, value in self.fields:
            if name not in ("save", "search") and name not in typed:
                form.setdefault(name, []).append(value)
        for name, texts in typed.items():
            form[name] = [texts] if isinstance(texts, str) else texts
        return form
