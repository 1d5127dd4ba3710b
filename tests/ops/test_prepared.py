from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from agents.models import Agent
from ops.models import Job, Service
from ops.prepared import PreparedRead

pytestmark = pytest.mark.django_db


@pytest.fixture
def agents():
    service = Service.objects.create(
        name="letta", kind="letta", base_url="http://x", credentials={"token": "t0psecret99"}
    )
    return [Agent.objects.create(service=service, external_id=f"a{n}", name=f"Agent {n}") for n in range(3)]


def test_rows_come_as_the_queryset_would_give_them(agents, django_assert_num_queries):
    read = PreparedRead(lambda pk: Agent.objects.select_related("service", "mapping__account").filter(pk=pk), 1)
    for agent in agents:
        with django_assert_num_queries(1):
            found = read.first(agent.pk)
            assert found == agent
            assert {f.attname: getattr(found, f.attname) for f in Agent._meta.concrete_fields} == {
                f.attname: getattr(agent, f.attname) for f in Agent._meta.concrete_fields
            }
            assert found.service.credentials == {"token": "t0psecret99"}
            assert not hasattr(found, "mapping")
    assert found.service.created_at == Service.objects.get().created_at
    assert read.first(-1) is None


def test_several_arguments_of_all_kinds_and_a_single_column():
    now = timezone.now()
    read = PreparedRead(
        lambda kind, since: (
            Job.objects.filter(kind=kind, created_at__gt=since).order_by("pk").values_list("pk", flat=True)
        ),
        "kind",
        now,
    )
    ids = sorted(Job.objects.create(kind="k", title=str(n), actor="x").pk for n in range(3))
    Job.objects.create(kind="other", title="x", actor="x")
    assert read.all("k", now - timedelta(minutes=1)) == ids
    assert read.all("k", now + timedelta(minutes=1)) == []


def test_what_changes_the_text_is_refused():
    read = PreparedRead(lambda n: Job.objects.all()[:n], 1)
    with pytest.raises(ValueError, match="Argument 0"):
        read.all(1)
    with pytest.raises(ValueError, match="or one column"):
        PreparedRead(lambda kind: Job.objects.filter(kind=kind).values_list("pk", "kind"), "x").all("y")
