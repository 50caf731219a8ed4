"""The API: what is asked, listed and written over HTTP is what the model itself says."""

from __future__ import annotations

from typing import Any

import pytest
from tests.serve.http.conftest import Start

from hmn.serve.served import ServedModel

NEW = {"subject": "zoe", "relation": "born_in", "object": "atlantis"}


def of_fact(served: ServedModel, number: int) -> tuple[str, str, str]:
    with served.reading() as (_, model):
        return model.facts.fact(number)[:3]


def asked(client: Any, question: object, **more: object) -> Any:
    return client.post("/v1/ask", json={"question": question, **more})


def test_answers_are_those_of_the_model(start: Start, served: ServedModel) -> None:
    questions = ["where was ada born?", "who wrote the book", "where was ada born?"]
    response = asked(start(), questions, k=3)
    version, answers = served.ask(questions, 3)
    assert response.status_code == 200
    found = response.json()
    assert found["version"] == version
    assert [result["question"] for result in found["results"]] == questions
    for result, own in zip(found["results"], answers, strict=True):
        shown = own.as_dict()
        assert result["known"] == shown["known"] and result["reads"] == shown["reads"] > 0
        assert [answer["answers"] for answer in result["answers"]] == [answer.answers for answer in own]
        assert [answer["probability"] for answer in result["answers"]] == pytest.approx(
            [answer.probability for answer in own]
        )
        assert result["answers"][0]["facts"] == [fact._asdict() for fact in own[0].facts]


def test_one_question_is_a_list_of_one(start: Start) -> None:
    client = start()
    one, several = asked(client, "where was ada born?"), asked(client, ["where was ada born?"])
    assert one.json() == several.json()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "question"),
        ({"question": []}, "question"),
        ({"question": ""}, "question"),
        ({"question": "x" * 2001}, "question"),
        ({"question": "?!"}, "no word"),
        ({"question": "who", "k": 0}, "k"),
        ({"question": "who", "k": True}, "k"),
        ({"question": "who", "kk": 1}, "kk"),
        ({"question": ["who"] * 257}, "257 questions"),
    ],
)
def test_bad_questions_are_problems(start: Start, body: dict[str, Any], named: str) -> None:
    response = start().post("/v1/ask", json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == 422 and named in problem["detail"]


def test_what_is_no_json_or_no_route_is_a_problem(start: Start) -> None:
    client = start()
    for response, status in (
        (client.post("/v1/ask", content=b"{", headers={"content-type": "application/json"}), 422),
        (client.get("/v1/nothing"), 404),
        (client.put("/v1/ask"), 405),
    ):
        assert response.status_code == response.json()["status"] == status
        assert response.headers["content-type"] == "application/problem+json"
    # the error names a place that there is
    assert "/openapi.json" in client.get("/v1/nothing").json()["detail"]


def test_facts_come_page_by_page(start: Start, served: ServedModel) -> None:
    client, seen, after = start(), [], {}
    while True:
        page = client.get("/v1/facts", params={"limit": 5, **after}).json()
        seen += [(fact["subject"], fact["relation"], fact["object"]) for fact in page["facts"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == [of_fact(served, number) for number in range(len(seen))] and len(seen) == 24
    subject, relation, object_ = seen[3]
    found = client.get("/v1/facts", params={"subject": subject, "object": object_}).json()["facts"]
    assert (subject, relation, object_) in [(row["subject"], row["relation"], row["object"]) for row in found]
    assert client.get("/v1/facts", params={"after": -1}).status_code == 422


def test_writes_are_answered_at_once_and_removed_again(start: Start) -> None:
    client = start(allow_writes=True)
    body = {"facts": [NEW], "names": {"zoe": ["Zoe Quill"], "atlantis": ["Atlantis"]}}
    written = client.post("/v1/facts", json=body, headers={"Idempotency-Key": "one"}).json()
    assert written == {"version": 1, "added": 1, "removed": 0, "unchanged": 0, "repeated": False}
    again = client.post("/v1/facts", json=body, headers={"Idempotency-Key": "one"}).json()
    assert again == {**written, "repeated": True}
    other = client.post("/v1/facts", json={"facts": [NEW]}, headers={"Idempotency-Key": "one"})
    assert other.status_code == 409 and "one" in other.json()["detail"]
    found = client.get("/v1/facts", params={"subject": "Zoe Quill"}).json()
    assert found["version"] == 1 and found["facts"][0]["object_name"] == "Atlantis"
    answers = asked(client, "where was zoe quill born?", k=25).json()["results"][0]["answers"]
    assert ["Atlantis"] in [answer["answers"] for answer in answers]
    replaced = client.post("/v1/facts", json={"facts": [{**NEW, "object": "mu"}], "replace": True}).json()
    assert (replaced["added"], replaced["removed"]) == (1, 1)
    gone = client.request("DELETE", "/v1/facts", json={"facts": [{**NEW, "object": "mu"}]}).json()
    assert (gone["version"], gone["removed"]) == (3, 1)
    assert client.get("/v1/facts", params={"subject": "zoe"}).json()["facts"] == []
    answers = asked(client, "where was zoe quill born?", k=25).json()["results"][0]["answers"]
    assert not {"Atlantis", "mu"} & {name for answer in answers for name in answer["answers"]}
    missing = client.request("DELETE", "/v1/facts", json={"facts": [NEW]})
    assert missing.status_code == 422 and "zoe" in missing.json()["detail"]
    passed = client.request("DELETE", "/v1/facts", json={"facts": [NEW], "ignore_missing": True})
    assert passed.status_code == 200 and passed.json()["removed"] == 0


def test_flags_of_writes_are_true_or_false(start: Start) -> None:
    client = start(allow_writes=True)
    for method, flag in (("POST", "replace"), ("DELETE", "ignore_missing")):
        for value in (1, 0, "true", None):
            refused = client.request(method, "/v1/facts", json={"facts": [NEW], flag: value})
            assert refused.status_code == 422 and flag in refused.json()["detail"]
    assert client.get("/v1/model").json()["version"] == 0


def test_the_model_describes_itself_and_counts(start: Start) -> None:
    client = start()
    about = client.get("/v1/model").json()
    assert about["facts"] == 24 and about["hops"] == 1 and about["index"] == "exact" and about["relations"]
    assert client.get("/healthz").text == client.get("/livez").text == client.get("/readyz").text == "ok\n"
    asked(client, ["where was ada born?", "who wrote the book"])
    figures = client.get("/metrics").text
    assert "hmn_facts 24.0" in figures
    assert "hmn_batch_questions_sum 2.0" in figures
    assert 'hmn_requests_total{route="/v1/ask",status="200"} 1.0' in figures


def test_the_schema_names_every_route_and_problem(start: Start) -> None:
    schema = start().get("/openapi.json").json()
    routes = {(path, method) for path, methods in schema["paths"].items() for method in methods}
    assert {
        ("/v1/ask", "post"),
        ("/v1/facts", "get"),
        ("/v1/facts", "post"),
        ("/v1/facts", "delete"),
    } <= routes
    problems = schema["paths"]["/v1/ask"]["post"]["responses"]
    assert {"401", "413", "422", "503"} <= set(problems)


def test_a_trace_shows_what_was_read(start: Start, served: ServedModel) -> None:
    with served.reading() as (_, model):
        model.use_index("cluster:num_clusters=4,num_probes=2")
    client = start()
    found = asked(client, "where was person 3 born?", trace=True).json()["results"][0]
    plain = asked(client, "where was person 3 born?").json()["results"][0]
    trace = found.pop("trace")
    assert plain.pop("trace") is None
    for one, other in zip(found["answers"], plain["answers"], strict=True):
        assert one.pop("probability") == pytest.approx(other.pop("probability"), rel=1e-5)
    assert found.pop("known_probability") == pytest.approx(plain.pop("known_probability"), rel=1e-5)
    assert found == plain
    assert trace["index"].startswith("cluster:")
    (search,) = trace["searches"]
    (tier,) = search["tiers"]
    assert (tier["groups"], tier["scored"], search["queries"]) == (4, 4, 1)
    covered = {place for begin, count in tier["spans"] for place in range(begin, begin + count)}
    assert len(covered) == search["coded"] < search["cells"]
    assert set(search["places"]) <= covered
    assert search["reads"] == found["reads"]
    assert sum(one["weight"] for one in trace["attended"]) == pytest.approx(1.0, abs=1e-5)


def test_a_trace_is_for_one_question(start: Start) -> None:
    response = asked(start(), ["where was ada born?", "who wrote the book"], trace=True)
    assert response.status_code == 422
    assert response.json()["detail"] == "trace is for one question, got 2"


def test_what_the_model_says_of_itself(start: Start, served: ServedModel) -> None:
    about = start(allow_writes=True).get("/v1/model").json()
    with served.reading() as (_, model):
        assert about["facts"] == len(model.facts)
        assert {one["relation"] for one in about["relations"]} == set(model.facts.relations)
    assert sum(one["facts"] for one in about["relations"]) == about["facts"]
    assert about["writes"] == "on"
    assert start().get("/v1/model").json()["writes"] == "off"
    guarded = start(token="a", read_token="b")
    writes = {
        token: guarded.get("/v1/model", headers={"Authorization": f"Bearer {token}"}).json()["writes"]
        for token in "ab"
    }
    assert writes == {"a": "on", "b": "token"}


def test_the_description_of_the_api_says_which_routes_take_a_token(start: Start) -> None:
    paths = start(token="a").get("/openapi.json").json()["paths"]
    secured = {path for path, methods in paths.items() if all("security" in one for one in methods.values())}
    assert secured == {"/v1/ask", "/v1/facts", "/v1/model", "/metrics"}
    assert "HTTPBearer" not in start().get("/openapi.json").text


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({"question": ["who", ""]}, {"body.question.1": "got ''"}),
        ({"question": ["who", 5]}, {"body.question.1": "got 5"}),
        ({"question": "who", "k": 1000}, {"body.k": "got 1000"}),
        ({"question": "x" * 2001, "k": 0}, {"body.question": "2000", "body.k": "got 0"}),
        ({}, {"body.question": "required"}),
    ],
)
def test_faults_say_where_and_what_was_there(start: Start, body: object, faults: dict[str, str]) -> None:
    found = start().post("/v1/ask", json=body).json()
    assert {one["at"] for one in found["faults"]} == set(faults)
    assert all(faults[one["at"]] in one["fault"] for one in found["faults"])
    assert len(found["detail"]) < 500


def test_a_question_of_neither_form_gets_the_faults_of_both(start: Start) -> None:
    found = asked(start(), 5).json()
    assert [one["at"] for one in found["faults"]] == ["body.question"] * 2
    assert "valid string" in found["detail"] and "valid list" in found["detail"]


def test_a_question_that_is_no_json_gets_415(start: Start) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}  # what curl -d sends
    response = start().post("/v1/ask", content='{"question": "who"}', headers=headers)
    assert response.status_code == 415
    assert "content-type is application/x-www-form-urlencoded, expected" in response.json()["detail"]


def test_a_misspelt_parameter_is_not_taken_for_none(start: Start) -> None:
    response = start().get("/v1/facts", params={"subjekt": "ada"})
    assert response.status_code == 422 and "query.subjekt" in response.json()["detail"]


def test_a_fact_takes_the_place_of_another_that_must_be_there(start: Start, served: ServedModel) -> None:
    client = start(allow_writes=True)
    client.post("/v1/facts", json={"facts": [NEW, NEW | {"object": "mu"}]})
    swap = {"facts": [NEW | {"object": "lemuria"}], "remove": [NEW]}
    first, second = (client.post("/v1/facts", json=swap) for _ in range(2))
    assert (first.json()["added"], first.json()["removed"]) == (1, 1)
    late = client.post("/v1/facts", json={"facts": [NEW | {"object": "thule"}], "remove": [NEW]})
    assert second.status_code == late.status_code == 422 and "does not have" in late.json()["detail"]
    objects = [fact.object for fact in served.facts(subject="zoe", relation="born_in").facts]
    assert sorted(objects) == ["lemuria", "mu"]
    many = client.post("/v1/facts", json={"facts": [NEW] * 6000, "remove": [NEW] * 6000})
    assert many.status_code == 422 and "12,000 facts" in many.json()["detail"]


def test_a_method_that_there_is_not_gets_those_that_there_are(start: Start) -> None:
    response = start().put("/v1/facts")
    assert response.status_code == 405
    assert response.headers.get_list("allow") == ["DELETE, GET, POST"]
