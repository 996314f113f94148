"""The demo's five acts: how a service misbehaves, and what the manager makes of it.

Each act returns claims: what it has shown, and whether the records bear it out. No claim is about
a short duration, so that a busy machine changes none.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise

import requests

from requests_connection_manager import ConnectionManager, DeadlineExceeded, MaxRetriesExceeded
from tests.server import Reply, ScriptedServer, wait_until

from .demo_stage import CALL_ID, Call, Change, Stage, never_above

LIMIT = 3
THRESHOLD, RECOVERY = 3, 1.0
Claim = tuple[str, bool]


def perform(stage: Stage) -> int:
    """Play the acts through one manager, and show the score; return the exit status."""
    with ScriptedServer() as api, ScriptedServer() as shop:
        at_api, at_shop = (f"{server.host}:{server.port}" for server in (api, shop))
        stage.servers = (api, shop)
        with ConnectionManager(
            timeout=10,
            circuit_breaker_failure_threshold=THRESHOLD,
            circuit_breaker_recovery_timeout=RECOVERY,
            circuit_breaker_recovery_max=RECOVERY,  # else a second trip in a row doubles it
            endpoint_configs={
                f"{at_api}/queue": {"rate_limit_requests": LIMIT, "rate_limit_period": 1},
                f"{at_api}/slow": {"read_timeout": 0.5, "max_retries": 1},
                f"{at_api}/slow/drip": {"total_timeout": 1.5},
                at_shop: {"max_retries": 1},
            },
        ) as manager:
            manager.session.trust_env = False  # the machine's proxies have no say here
            stage.act(
                "One ConnectionManager, and two servers that misbehave",
                f"api is {api.url}, shop is {shop.url}",
            )
            stage.watch(manager, api.url, shop.url)
            claims = [
                flaky(stage, manager, api),
                over_quota(stage, manager, api),
                in_line(stage, manager, api),
                slow(stage, manager, api),
                *down_and_back(stage, manager, shop),
                nothing_else(stage),
                the_same_counts(stage, manager),
            ]
            stage.tables(manager)
            stage.act("The same, as the manager has counted it: print(manager.stats())")
            print(manager.stats())
            status = stage.verdict(*claims)
            stage.act("Which pattern gives a URL its settings: print(manager.explain(url))")
            print(manager.explain(f"{api.url}/queue"))
    return status


def flaky(stage: Stage, manager: ConnectionManager, api: ScriptedServer) -> Claim:
    stage.act(
        "1. A flaky service",
        "It answers 503 twice, then 200. The manager tries again, first at once and then after a\n"
        "pause that is partly random. The callers get their 200.",
    )
    bad = Reply(status=503)

    def ask(caller: int) -> Call:
        url = api.script(f"/flaky/{caller}", bad, bad, Reply())
        return stage.get(manager, "api/flaky", caller, url)

    calls = stage.each(3, ask)
    well = all(call.status == 200 and len(call.arrivals) == 3 for call in calls)
    return "flaky: each call had its 200, by its third request", well


def over_quota(stage: Stage, manager: ConnectionManager, api: ScriptedServer) -> Claim:
    stage.act(
        "2. A service that is asked too often",
        "It answers 429 with `Retry-After: 1`, then 200. The manager waits as it is told.",
    )

    def ask(caller: int) -> Call:
        url = api.script(f"/quota/{caller}", Reply.retry_after(1, status=429), Reply())
        return stage.get(manager, "api/quota", caller, url)

    calls = stage.each(2, ask)
    well = all(
        call.status == 200 and [later - at >= 1 for at, later in pairwise(call.arrivals)] == [True]
        for call in calls
    )
    return "quota: each call's second request came a full second after its first", well


def in_line(stage: Stage, manager: ConnectionManager, api: ScriptedServer) -> Claim:
    stage.act(
        f"3. A limit of our own: {LIMIT} requests a second",
        "Four callers ask, twice each and all at once. They wait in line for their permits.",
    )

    def ask(caller: int) -> list[Call]:
        return [stage.get(manager, "api/queue", caller, f"{api.url}/queue") for _ in range(2)]

    start = time.monotonic()
    arrivals = [at for calls in stage.each(4, ask) for call in calls for at in call.arrivals]
    well = len(arrivals) == 8 and never_above(LIMIT, arrivals, start)
    return f"queue: 8 calls, 8 requests, and never more than {LIMIT} a second on the wire", well


def slow(stage: Stage, manager: ConnectionManager, api: ScriptedServer) -> Claim:
    stage.act(
        "4. A slow service",
        "Caller 1 gets no answer at all: read_timeout=0.5 ends each of two attempts. Caller 2\n"
        "gets a byte every 0.1 s, so that no read times out: total_timeout=1.5 ends the call.",
    )
    hang = api.script("/slow/hang", Reply(delay=60))
    drip = api.script("/slow/drip", Reply(body=b"z" * 600, drip=0.1))

    def ask(caller: int) -> Call:
        return stage.get(manager, "api/slow", caller, (hang, drip)[caller - 1])

    first, second = stage.each(2, ask)
    well = (
        isinstance(first.error, MaxRetriesExceeded)
        and isinstance(first.error, requests.ReadTimeout)
        and isinstance(second.error, DeadlineExceeded)
        and (len(first.attempts), len(second.attempts)) == (2, 1)
    )
    return "slow: two attempts ended by their time-out, and one call by its deadline", well


def down_and_back(stage: Stage, manager: ConnectionManager, shop: ScriptedServer) -> list[Claim]:
    stage.act(
        "5. A service that goes down, and comes back",
        f"{THRESHOLD} failed calls open the circuit: nothing more is sent. After {RECOVERY:g} s a"
        " trial is let\nthrough. The first one fails; the second succeeds, and closes the circuit.",
    )
    url = shop.script("/orders", Reply(status=503))

    def ask(caller: int) -> Call:
        return stage.get(manager, "shop/orders", caller, url)

    failing = stage.each(THRESHOLD, ask)
    refused = stage.each(4, ask)
    shop.pause()
    stage.say("shop", "■ is switched off, and refuses connections")
    time.sleep(RECOVERY)
    [in_vain] = stage.each(1, ask)
    shop.script("/orders", Reply(delay=1), Reply())  # a trial that the other callers will meet
    shop.resume()
    stage.say("shop", "■ is switched on")
    time.sleep(RECOVERY)
    meeting = stage.each(4, ask)
    healthy = stage.each(4, ask)

    calls = [*failing, *refused, in_vain, *meeting, *healthy]
    changes = [change for change in stage.changes if change.scope == shop.url]
    states = [change.state for change in changes]
    rejected = [call for call in calls if call.rejected]
    trials = _arrived_while(changes, "half-open", calls)
    return [
        (
            "shop: the circuit opened, opened again after a trial, and closed after another",
            states[:1] == ["open"] and states[-4:] == ["half-open", "open", "half-open", "closed"],
        ),
        (
            f"shop: {len(rejected)} calls were rejected, and sent nothing",
            any(call.rejected for call in refused) and not any(call.arrivals for call in rejected),
        ),
        (
            "shop: while the circuit was open, not one request arrived",
            sum(_arrived_while(changes, "open", calls)) == 0,
        ),
        (
            "shop: each trial was a single attempt; of four callers at once, one went through",
            trials[-1:] == [max(trials, default=0)] == [len(in_vain.attempts)] == [1]
            and any(call.rejected for call in meeting),
        ),
        ("shop: then all was well", all(call.status == 200 for call in healthy)),
    ]


def nothing_else(stage: Stage) -> Claim:
    """What was overheard, what the errors tell, and what the servers know: it is the same."""
    overheard, alike = Counter[str | None](), True
    for call in stage.calls:
        refused = isinstance(call.error, requests.ConnectionError)
        overheard[str(call.number)] = 0 if refused else len(call.attempts)
        told = getattr(call.error, "attempts", call.attempts)
        alike = alike and len(told) == len(call.attempts)

    def holds() -> bool:
        records = (record for server in stage.servers for record in server.received)
        return alike and overheard == Counter(record.headers.get(CALL_ID) for record in records)

    with suppress(AssertionError):  # a busy server has yet to read what a client has left behind
        wait_until(holds)
    return "all: every attempt is in the servers' records, or was refused a connection", holds()


def the_same_counts(stage: Stage, manager: ConnectionManager) -> Claim:
    scopes = manager.get_stats()["scopes"].values()
    counted = tuple(sum(scope[name] for scope in scopes) for name in ("calls", "attempts"))
    seen = len(stage.calls), sum(len(call.attempts) for call in stage.calls)
    return "all: the manager's own statistics count the same calls and attempts", counted == seen


def _arrived_while(changes: list[Change], state: str, calls: list[Call]) -> list[int]:
    """Count what reached the server in each of the times that the breaker was in a state."""
    arrivals = [at for call in calls for at in call.arrivals]
    return [
        sum(change.at <= at < until.at for at in arrivals)
        for change, until in pairwise(changes)
        if change.state == state
    ]
