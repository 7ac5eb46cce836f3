"""Answers that every face gives."""

import json
from typing import Any

from pyramid.response import Response


def json_response(value: Any, status: int = 200) -> Response:
    """Answer with JSON in UTF-8. Not escaped: a page would be three times as long where its texts are not ASCII."""
    body = json.dumps(value, ensure_ascii=False).encode()
    return Response(body, status=status, content_type="application/json", charset="UTF-8")
