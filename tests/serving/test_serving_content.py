"""Content other than text through the server: the official client, refusals, records, seeds, the page."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import toy_content
from volant.core.errors import ArtifactError
from volant.core.protocols import Chunk, Request
from volant.serving import content
from volant.serving.app import create_app
from volant.serving.limits import Limits
from volant.serving.run import running
from volant.serving.service import kinds, speaks

ROUTES = {toy_content.PATH: toy_content.ROUTE}


def client_for(service: Any) -> TestClient:
    app = create_app(service)
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False, client=("127.0.0.1", 5000))


def picture(b64: str) -> tuple[int, int, int]:
    opened = Image.open(io.BytesIO(base64.b64decode(b64)))
    assert opened.format == "PNG" and opened.size == (4, 4)
    pixel: Any = opened.getpixel((0, 0))
    return pixel


def test_the_official_client_makes_images(serving: Any, records: Any) -> None:
    service = serving(toy_content.session(), routes=ROUTES)
    with running(service) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        before = int(time.time())
        made = client.images.generate(model="champion", prompt="green", n=2, response_format="b64_json")
        assert made.created >= before and made.data is not None and len(made.data) == 2
        colours = [picture(image.b64_json or "") for image in made.data]
        assert all(r == 0 and g > 50 and b == 0 for r, g, b in colours)
        with pytest.raises(openai.BadRequestError, match="no class 'mauve'.*Known: red, green, blue") as refused:
            client.images.generate(model="champion", prompt="mauve")
        assert refused.value.code == "refused" and "/models" not in str(refused.value)  # where it lies is not told
        with pytest.raises(openai.BadRequestError, match="none of 64 draws is what 'white' asks for"):
            client.images.generate(model="champion", prompt="white")
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.images.generate(model="gpt-image-1", prompt="red")


def test_seeds_count_up_from_the_body_s_and_are_random_without(serving: Any) -> None:
    client = client_for(serving(toy_content.session(), routes=ROUTES))
    ask = lambda **rest: client.post(toy_content.PATH, json={"prompt": "red", **rest}).json()["data"]  # noqa: E731
    three = ask(seed=5, n=3)
    assert three[1:] == ask(seed=6, n=2) and three[0] != three[1]
    assert len({ask()[0]["b64_json"] for _ in range(8)}) > 1


def test_controls_reach_the_family_and_the_model_s_own_bounds_are_told(serving: Any) -> None:
    service = serving(toy_content.session(), routes=ROUTES)
    client = client_for(service)
    assert client.post(toy_content.PATH, json={"prompt": "red", "guidance": 2}).status_code == 200
    over = client.post(toy_content.PATH, json={"prompt": "red", "guidance": 50})
    assert over.status_code == 400 and over.json()["error"]["message"].startswith("guidance 50.0 is out of bounds.")
    broken = client.post(toy_content.PATH, json={"prompt": "red", "guidance": 9})  # raises inside the family
    assert broken.status_code == 500 and broken.json()["error"]["code"] == "engine"
    assert "secret" not in broken.text
    refused = client.post(
        toy_content.PATH, json={"prompt": "green", "user": "refuses"}
    )  # said by the route, at the end
    assert refused.status_code == 400 and "secret" not in refused.text
    assert refused.json()["error"]["message"] == "this model makes images of 4x4. Ask for 4x4."
    broken = client.post(toy_content.PATH, json={"prompt": "green", "user": "breaks"})  # raises inside the route
    assert broken.status_code == 500 and broken.json()["error"]["code"] == "internal" and "secret" not in broken.text
    counted = {"refused": 1, "invalid_value": 1, "engine": 1, "internal": 1}
    assert service.meter.snapshot()["errors"] == counted and service.in_flight == 0


def test_a_control_that_is_refused_takes_no_neighbour_with_it(serving: Any) -> None:
    """Two requests in one batch, one of them beyond the bounds: 200 and 400."""
    gate = threading.Event()
    session = toy_content.session()
    generate = session.generate

    def slow(requests: Any) -> Any:
        gate.wait(5)
        return generate(requests)

    service = serving(session, routes=ROUTES)
    session.generate = slow  # type: ignore[method-assign]
    with running(service) as url:
        import concurrent.futures

        import httpx

        def ask(guidance: float) -> int:
            body = {"prompt": "red", "guidance": guidance}
            return httpx.post(f"{url}{toy_content.PATH}", json=body, timeout=20).status_code

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            first = pool.submit(ask, 1)
            while service.batcher.running == 0:
                time.sleep(0.005)
            rest = [pool.submit(ask, guidance) for guidance in (2, 50)]
            while service.batcher.waiting < 2:
                time.sleep(0.005)
            gate.set()
            assert [f.result() for f in (first, *rest)] == [200, 200, 400]


REFUSED = [
    ({}, "prompt"),
    ({"prompt": "red", "n": 9}, "n"),
    ({"prompt": "red", "n": 0}, "n"),
    ({"prompt": "red", "sise": "1x1"}, "sise"),
    ({"prompt": 3}, "prompt"),
    ({"prompt": "red", "seed": 2**70}, "seed"),
    ({"prompt": "x" * 32_001}, "prompt"),
    ({"prompt": "red", "response_format": "url"}, None),
]


@pytest.mark.parametrize(("body", "param"), REFUSED)
def test_bodies_are_held_to_the_route_s_own_model(serving: Any, body: dict[str, Any], param: str | None) -> None:
    session = toy_content.session()
    response = client_for(serving(session, routes=ROUTES)).post(toy_content.PATH, json=body)
    error = response.json()["error"]
    assert response.status_code == 400 and error["param"] == param and error["type"] == "invalid_request_error"
    assert len(session._family.seeds) == 1  # the warm-up's


def test_requests_are_recorded_with_consent_and_can_be_rated(serving: Any, records: Any) -> None:
    service = serving(toy_content.session(), routes=ROUTES)
    client = client_for(service)
    body = {"prompt": "blue", "n": 2, "user": "ann"}
    response = client.post(toy_content.PATH, json=body, headers={"x-volant-consent": "training"})
    id = response.headers["x-request-id"]
    assert response.headers["x-volant-model"] == service.served.digest
    client.post(toy_content.PATH, json={**body, "seed": 4}, headers={"x-volant-consent": "none"})
    client.post(toy_content.PATH, json={"prompt": "mauve"})
    rated = client.post("/v1/feedback", json={"request_id": id, "rating": 1, "consent": "training"})
    assert rated.status_code == 200 and records.marks[0]["request_id"] == id
    service.ledger.flush()
    one, two, three = records.rows
    assert (one["id"], one["consent"], one["client"], one["status"]) == (id, "training", "local:ann", 200)
    assert one["request"] == body and one["response"] == response.json() and one["completion_tokens"] == 2
    assert two["request"] == {"n": 2, "seed": 4} and set(two["response"]) == {"created"}
    assert (three["status"], three["error"], three["response"]) == (400, "refused", None)
    text = client.get("/metrics").text
    assert f'volant_requests_total{{route="{toy_content.PATH}",status="200"}} 2.0' in text
    assert 'volant_errors_total{cause="refused"} 1.0' in text and service.in_flight == 0


class Slow:
    """Makes nothing until it is cancelled."""

    def __init__(self) -> None:
        self.cancelled: set[str] = set()
        self.asked: list[Request] = []

    def generate(self, requests: Any) -> Any:
        self.asked += requests
        for request in requests:
            if request.id == "warm-up":
                yield Chunk(request.id, "", "stop", sample=toy_content.painted((1, 2, 3)))
                continue
            while request.id not in self.cancelled:
                time.sleep(0.002)
            yield Chunk(request.id, "", "cancelled")

    def cancel(self, id: str) -> None:
        self.cancelled.add(id)

    def close(self) -> None:
        pass


def test_time_runs_out_and_a_full_queue_refuses(serving: Any) -> None:
    session = Slow()
    service = serving(session, routes=ROUTES, limits=Limits(deadline_seconds=0.2, queue=2))
    client = client_for(service)
    assert client.post(toy_content.PATH, json={"prompt": "red"}).status_code == 504
    assert session.asked[0].prompt == ""  # content is warmed up without a condition
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(client.post(toy_content.PATH, json={"prompt": "red", "n": 2}).status_code)
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert set(answers) == {429, 504} and service.in_flight == 0


def test_a_client_that_leaves_frees_its_slot(serving: Any, records: Any) -> None:
    import httpx

    session = Slow()
    service = serving(session, routes=ROUTES, limits=Limits(deadline_seconds=30))
    with running(service) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}{toy_content.PATH}", json={"prompt": "red", "n": 2}, timeout=0.3)
        deadline = time.monotonic() + 10
        while service.in_flight or service.batcher.running:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        service.ledger.flush()
        assert records.rows[0]["status"] == 499 and len(session.cancelled) == 2


def test_a_model_that_makes_nothing_is_not_served(serving: Any) -> None:
    session = toy_content.session()
    session._codec.fits = lambda sample, condition: False  # type: ignore[method-assign]
    with pytest.raises(ArtifactError, match="does not answer: none of 64 draws"):
        serving(session, routes=ROUTES)


def test_the_field_of_the_condition_is_found_and_the_example_asks_for_it() -> None:
    assert content.condition_field(toy_content.ROUTE) == "prompt"
    assert content.example_body(toy_content.ROUTE) == {"seed": 0, "prompt": "", "n": 1}
    assert content.example_body(toy_content.ROUTE, "red") == {"seed": 0, "prompt": "red", "n": 1}
    assert kinds({**ROUTES, "/v1/completions": "completion"}) == {
        toy_content.PATH: "content", "/v1/completions": "completion",
    }  # fmt: skip
    assert not speaks(ROUTES) and speaks({**ROUTES, "/v1/completions": "completion"})


def test_the_schema_and_the_status_name_the_route(serving: Any) -> None:
    client = client_for(serving(toy_content.session(), routes=ROUTES))
    schema = client.get("/openapi.json").json()
    asked = schema["paths"][toy_content.PATH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "guidance" in schema["components"]["schemas"][asked["$ref"].rsplit("/", 1)[1]]["properties"]
    assert client.get("/status").json()["routes"] == {toy_content.PATH: "content"}


def page_of(serving: Any) -> str:
    return client_for(serving(toy_content.session(), routes=ROUTES)).get("/").text


def test_the_page_carries_the_example_and_may_show_data_images(serving: Any) -> None:
    client = client_for(serving(toy_content.session(), routes=ROUTES))
    page = client.get("/")
    assert "img-src data:" in page.headers["content-security-policy"]
    found = re.search(r'data-example="([^"]*)" data-field="prompt"', page.text)
    assert found and json.loads(html.unescape(found[1])) == {"prompt": "", "n": 1}


@pytest.mark.skipif(shutil.which("node") is None, reason="runs the page's own script in node")
def test_the_page_s_script_shows_pictures_rows_and_json(serving: Any, tmp_path: Path) -> None:
    """The functions of the page's script over a stand-in for the document; nothing is ever put in as HTML."""
    script = re.search(r"<script nonce=[^>]*>(.*)</script>", page_of(serving), re.DOTALL)
    assert script and "innerHTML" not in script[1]
    functions = script[1][script[1].index("const cell") : script[1].index("function turned")]
    (tmp_path / "page.js").write_text(
        "const made = (tag) => ({ tag, children: [], append(...c) { this.children.push(...c); } });\n"
        "const document = { createElement: made };\n"
        + functions
        + """
const bodies = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(bodies.map(shown)));
"""
    )
    bodies = [
        {"created": 1, "data": [{"b64_json": "iVBORw0KGgo="}, {"b64_json": "UklGRg=="}]},
        {"created": 1, "rows": [{"age": 31, "city": "<b>Ulm"}, {"age": None, "town": "x"}]},
        {"created": 1, "note": "nothing"},
    ]
    ran = subprocess.run(
        ["node", str(tmp_path / "page.js")], input=json.dumps(bodies), capture_output=True, text=True, check=True
    )
    pictures, rows, plain = json.loads(ran.stdout)
    assert [p["src"].split(",")[0] for p in pictures] == ["data:image/png;base64", "data:image/webp;base64"]
    table = rows[0]["children"]
    assert [[c["textContent"] for c in line["children"]] for line in table] == [
        ["age", "city", "town"], [31, "<b>Ulm", ""], ["", "", "x"],
    ]  # fmt: skip
    assert json.loads(plain[0]) == bodies[2]
