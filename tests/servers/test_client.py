"""A real server on loopback, asked with a key, and again after the wait that it names."""

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from outweigh.errors import ConfigError, ServerError, ServerRefusal
from outweigh.servers import client
from outweigh.servers.client import Server
from outweigh.servers.config import ServerConfig, masked


def asked(server, **settings):
    """Nothing; the server has been asked until it answered."""
    found = Server(server.url, ServerConfig(**settings), key="SOME_KEY", advice="")
    found.asked("POST", json={"messages": [{"content": "Hi"}]})


def waited(server):
    (first, _, _), (second, _, _) = server.asked
    return second - first


def test_a_key_is_sent_without_the_line_break_that_a_file_gave_it(server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret\n")
    monkeypatch.setenv("OTHER_KEY", "other")
    asked(server)
    asked(server, key="OTHER_KEY")
    assert [key for _, key, _ in server.asked] == ["Bearer secret", "Bearer other"]


def test_a_key_is_sent_whatever_the_users_netrc_says(server, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("SOME_KEY", "key")
    asked(server)
    assert [key for _, key, _ in server.asked] == ["Bearer key"]


@pytest.mark.parametrize("key", ["sec\nret", "secr\u20act", "secr\u00e9t"])
def test_what_can_be_no_key_is_refused_by_the_name_of_its_variable(key, server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(ConfigError, match=r"^SOME_KEY: .* want printable ASCII") as told:
        asked(server)
    assert "sec" not in str(told.value) and not server.asked


def test_users_and_passwords_of_urls_are_masked_and_nothing_else():
    assert masked("mean:http://a:b@h/get_reward,http://c,d@h:1#x@y") == (
        "mean:http://***@h/get_reward,http://***@h:1#x@y"
    )
    for name in ("http://h/v1", "http://h/get_reward#owner/name@main", "run/model@2", "owner/name"):
        assert masked(name) == name


def test_a_wait_may_be_a_fraction_of_a_second_or_a_date(server):
    server.script = ["wait 0.3"]
    asked(server)
    assert 0.3 <= waited(server) < 0.8
    server.asked.clear()
    server.script = [f"wait {format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)}"]
    asked(server)
    assert 1.5 < waited(server) < 3.5  # a date has whole seconds


@pytest.mark.parametrize("named", ["Wed, 21 Oct 2015 07:28:00 GMT", "-5", "0"])
def test_a_wait_that_is_over_is_none(named, server):
    server.script = [f"wait {named}"]
    asked(server)
    assert waited(server) < 0.5


@pytest.mark.parametrize("named", ["soon", "nan", "inf", "Wed, 99 Foo 2015"])
def test_a_wait_that_can_not_be_read_is_the_one_that_doubles(named, server):
    server.script = [f"wait {named}"]
    asked(server)
    assert 1.0 <= waited(server) < 1.5


def test_a_long_wait_has_its_limit_and_is_told_once_for_all_that_wait(server, monkeypatch, caplog):
    monkeypatch.setattr(client, "LONGEST", 0.5)
    monkeypatch.setattr(client, "LONG", 0.4)
    server.script = ["wait 86400"] * 4
    found = Server(server.url, ServerConfig(concurrency=4), key="SOME_KEY", advice="")

    def ask(number, stopped):
        return found.asked("POST", stopped=stopped, json={"messages": [{"content": str(number)}]})

    began = time.monotonic()
    assert len(list(found.map(ask, range(4)))) == 4
    assert 0.5 <= time.monotonic() - began < 2.0
    assert [record.message for record in caplog.records] == [
        f"{server.url}: is busy, and asked again in 0 s."
    ]


def test_what_stands_behind_a_failure_is_not_begun(server):
    begun = []

    def fails(each, stopped):
        begun.append(each)
        raise ServerError("no more")

    one_by_one = Server(server.url, ServerConfig(concurrency=1), key="SOME_KEY", advice="")
    with pytest.raises(ServerError, match="no more"):
        list(one_by_one.map(fails, range(9)))
    time.sleep(0.1)
    assert begun == [0]


def test_a_failure_is_of_the_request_where_the_server_answers_others_meanwhile(server):
    found = Server(server.url, ServerConfig(retries=1), key="SOME_KEY", advice="")
    server.answer = lambda body: (500, b"out of memory") if body["hard"] else {"choices": []}
    with pytest.raises(ServerError, match="answers 500, 'out of memory'") as told:
        found.asked("POST", json={"hard": True})
    assert told.type is ServerError  # whose it is nothing tells

    def while_it_waits():
        time.sleep(0.3)
        found.asked("POST", json={"hard": False})

    other = threading.Thread(target=while_it_waits)
    other.start()
    with pytest.raises(ServerRefusal, match="answers 500, 'out of memory'"):
        found.asked("POST", json={"hard": True})
    other.join()


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_server_that_is_away_refuses_nothing(status, server):
    found = Server(server.url, ServerConfig(retries=0), key="SOME_KEY", advice="")
    server.answer = lambda body: (status, b"away") if body["hard"] else {"choices": []}
    asked = [{"hard": place == 3} for place in range(20)]
    with pytest.raises(ServerError, match=f"answers {status}") as told:
        list(found.map(lambda body, stopped: found.asked("POST", json=body, stopped=stopped), asked))
    assert told.type is ServerError


def test_a_list_of_models_that_is_refused_is_no_text_that_is(server):
    found = Server(server.url.replace("/v1", "/none"), ServerConfig(), key="SOME_KEY", advice="")
    server.lists = (400, b"no such path")
    with pytest.raises(ServerError, match="answers 400") as told:
        found.first_model("/models")
    assert told.type is ServerError
