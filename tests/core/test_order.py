"""Services that come after others: when they start, when they stop, what they outlive."""

from __future__ import annotations

from forkd.core.commands import QUIT, TERM, Signal, StartZygote
from forkd.core.events import Exited, Ready, Reload, Restart, Scale, Stop
from forkd.core.spec import RestartSpec
from tests.core.puppet import Puppet, service

DB, WEB = service("db"), service("web", after=("db",))


def ended(world: Puppet) -> list[tuple[int | None, bool | None, str | None]]:
    return [(news.ticket, news.ok, news.text) for news in world.told("ended")]


def names(world: Puppet) -> list[str]:
    return [command.spec.name for command in world.take() if isinstance(command, StartZygote)]


# --- starting --------------------------------------------------------------------------------------------------------


def test_a_service_starts_when_what_it_comes_after_is_ready():
    world = Puppet(WEB, DB, silent="db")
    assert names(world) == ["db"]
    assert (world.status("web")["state"], world.status("web")["error"]) == ("starting", "waits for db")
    assert [news.text for news in world.told("waiting")] == ["waits for db"]
    world.tell(Ready(world.worker(0, "db")))
    assert names(world) == ["web"]
    assert world.slots("web") == {0: ("ready", 1)}
    assert world.status("web")["error"] is None


def test_all_of_its_workers_must_be():
    world = Puppet(service("db", workers=2), WEB, silent="db")
    world.tell(Ready(world.worker(0, "db")))
    assert world.slots("web") == {}
    world.tell(Ready(world.worker(1, "db")))
    assert world.slots("web") == {0: ("ready", 1)}


def test_a_job_that_has_ended_well_is_as_good():
    world = Puppet(service("db", restart=RestartSpec(policy="on-failure")), WEB, silent="db")
    world.tell(Exited(world.worker(0, "db"), 0, None))
    assert world.slots("web") == {0: ("ready", 1)}


def test_a_chain_starts_link_by_link():
    world = Puppet(service("c", after=("b",)), service("b", after=("a",)), service("a"))
    assert names(world) == ["a", "b", "c"]


def test_it_outlives_what_it_came_after():
    world = Puppet(DB, WEB)
    world.silent = "db"
    world.tell(Exited(world.worker(0, "db"), None, 9))
    world.tell(Stop(1, "db"))
    assert world.slots("web") == {0: ("ready", 1)}
    world.tell(Exited(world.worker(0, "web"), None, 9))
    world.advance(1)
    assert world.slots("web") == {0: ("ready", 1)}


def test_a_reload_of_all_rolls_both_at_once():
    world = Puppet(DB, WEB)
    world.silent = "db"
    world.tell(Reload(1))
    assert world.slots("web") == {0: ("ready", 2)}


def test_a_service_that_waits_takes_the_new_code_when_it_begins():
    world = Puppet(WEB, DB, silent="db")
    world.tell(Reload(1))
    world.take()
    world.silent = ""
    world.tell(Ready(world.worker(0, "db")))
    assert names(world) == ["web"]
    assert world.slots("web") == {0: ("ready", 2)}


def test_a_service_that_waits_can_be_scaled_stopped_and_started():
    world = Puppet(WEB, DB, silent="db")
    world.tell(Scale(1, "web", 2), Stop(2, "web"))
    assert ended(world) == [(1, False, "web: stopped meanwhile"), (2, True, None)]
    assert world.status("web")["state"] == "stopped"
    world.tell(Restart(3, "web"))
    world.tell(Ready(world.worker(0, "db")))
    assert sorted(world.slots("web")) == [0, 1]
    assert ended(world)[-1] == (3, True, None)


def test_a_stopped_service_waits_again():
    world = Puppet(DB, WEB)
    world.tell(Stop(1))
    assert world.supervisor.done
    world = Puppet(DB, WEB)
    world.tell(Stop(1, "web"), Stop(2, "db"))
    world.take()
    world.tell(Restart(3))
    assert names(world) == ["db", "web"]
    assert ended(world)[-1] == (3, True, None)


# --- what cannot begin -----------------------------------------------------------------------------------------------


def state(world: Puppet) -> str:
    return str(world.supervisor.snapshot(world.now)["forkd"]["state"])


def test_who_waits_for_what_was_stopped_is_told_so():
    world = Puppet(DB, WEB)
    world.tell(Stop(1, "web"), Stop(2, "db"))
    world.tell(Restart(3, "web"))
    assert ended(world)[-1] == (3, False, "web: waits for db, which is stopped")
    world.tell(Restart(4, "db"))
    assert world.slots("web") == {0: ("ready", 1)}


def test_one_that_cannot_start_holds_up_those_after_it_but_not_the_launcher():
    world = Puppet(DB, WEB, service("top", after=("web",)), silent="db")
    assert state(world) == "starting"
    world.bad_slots.add((1, 0))
    world.tell(Exited(world.worker(0, "db"), 1, None))
    assert state(world) == "running"
    assert world.status("top")["error"] == "waits for web"
    world.tell(Restart(1, "top"))
    assert ended(world)[0][1:] == (
        False,
        "top: waits for web: waits for db: worker 0 failed to start: exited with code 1",
    )


def test_one_that_was_given_up_holds_them_up_too():
    world = Puppet(service("db", restart=RestartSpec(max_restarts=1)), WEB, silent="db")
    world.bad_slots.add((1, 0))
    world.tell(Exited(world.worker(0, "db"), 1, None))
    world.advance(10)
    assert state(world) == "running"
    world.tell(Restart(1, "web"))
    assert ended(world) == [(1, False, "web: waits for db, which is failed")]


def test_what_comes_after_something_removed_waits():
    world = Puppet(DB, WEB)
    world.config = world.config._replace(services=(DB,))
    world.tell(Stop(1, "web"))
    world.tell(Reload(2))
    world.config = world.config._replace(services=(WEB,))
    world.tell(Reload(3))
    world.tell(Reload(4, "web"))
    assert ended(world)[-1] == (4, False, "web: waits for db, which is not there")


# --- stopping --------------------------------------------------------------------------------------------------------


def test_it_stops_before_what_it_came_after():
    world = Puppet(DB, WEB)
    world.stubborn.add(TERM)
    db, web = world.worker(0, "db"), world.worker(0, "web")
    world.take()
    world.tell(Stop(1))
    assert world.take(Signal) == [Signal(web, TERM)]
    assert world.status("db")["state"] == "stopping"
    world.tell(Exited(web, 0, None))
    assert world.take(Signal) == [Signal(db, TERM)]
    world.tell(Exited(db, 0, None))
    assert world.supervisor.done


def test_what_dies_while_it_is_needed_to_the_end_is_not_started_again():
    world = Puppet(DB, WEB)
    world.stubborn.add(TERM)
    world.tell(Stop(1))
    world.take()
    world.tell(Exited(world.worker(0, "db"), None, 9))
    world.advance(5)
    assert names(world) == []


def test_at_once_means_all_at_once():
    world = Puppet(DB, WEB)
    world.stubborn |= {TERM, QUIT}
    world.take()
    world.tell(Stop(1, quick=True))
    assert {command.signal for command in world.take(Signal)} == {QUIT}


def test_it_is_not_stopped_by_what_is_stopped_alone():
    world = Puppet(DB, WEB)
    world.tell(Stop(1, "db"))
    assert world.status("db")["state"] == "stopped"
    assert world.status("web")["state"] == "running"


def test_both_removed_go_in_order():
    world = Puppet(DB, WEB, service("other"))
    world.stubborn.add(TERM)
    web = world.worker(0, "web")
    world.config = world.config._replace(services=(service("other"),))
    world.take()
    world.tell(Reload(1, "db"))
    world.tell(Reload(2))
    world.tell(Exited(web, 0, None))
    assert [command.signal for command in world.take(Signal)][:2] == [TERM, TERM]


# --- circles ---------------------------------------------------------------------------------------------------------

TURNED = (service("db", after=("web",)), service("web"))


def test_an_order_may_be_turned_while_both_wait():
    top = service("top")
    world = Puppet(top, service("web", after=("top",)), service("db", after=("web",)), silent="top")
    world.config = world.config._replace(services=(top, service("web", after=("db",)), service("db", after=("top",))))
    world.tell(Reload(1))
    world.tell(Ready(world.worker(0, "top")))
    assert names(world) == ["top", "top", "db", "web"]


def test_in_a_circle_nobody_waits_for_anybody():
    world = Puppet(DB, WEB)
    world.config = world.config._replace(services=TURNED)
    world.tell(Reload(1, "db"))
    world.tell(Stop(2, "db"), Stop(3, "web"))
    assert ended(world) == [(1, True, None), (2, True, None), (3, True, None)]
    world.take()
    world.tell(Restart(4))
    assert sorted(names(world)) == ["db", "web"]
    assert ended(world)[-1] == (4, True, None)


def test_a_circle_that_a_rollback_has_left_can_be_stopped():
    world = Puppet(DB, WEB)
    world.config = world.config._replace(services=TURNED)
    world.silent = "web"
    world.tell(Reload(1))
    world.tell(Exited(world.worker(0, "web"), 1, None))
    assert world.told("rolled_back")[0].service == "web"
    world.tell(Stop(2))
    assert world.supervisor.done


def test_a_long_chain_is_looked_through_once():
    chain = [service("0"), *(service(f"{n}", after=(f"{n - 1}",)) for n in range(1, 100))]
    world = Puppet(*chain, silent="0")
    world.bad_slots.add((1, 0))
    world.tell(Exited(world.worker(0, "0"), 1, None))
    world.tell(Restart(1, "99"))
    assert str(ended(world)[0][2]).startswith("99: waits for 98: waits for 97: ")
