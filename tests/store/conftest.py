"""Stores of both kinds; every test of a repository runs on each."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import shutil

import pytest
from support.postgres import running_postgres

from relay.store import look_at, open_store


@pytest.fixture(scope="session")
def postgres():
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def templates(request, tmp_path_factory):
    """The URL of a database with its tables, by kind: made once, copied for each test."""

    @functools.cache
    def template(kind):
        if kind == "postgresql":
            url = request.getfixturevalue("postgres").new_database()
        else:
            url = f"sqlite:///{tmp_path_factory.mktemp('template')}/relay.db"
        with concurrent.futures.ThreadPoolExecutor(1) as aside:
            aside.submit(asyncio.run, look_at(url, bring_up=True)).result()
        return url

    return template


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.stores)])
def empty_url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").new_database()
    return f"sqlite:///{tmp_path}/empty.db"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.stores)])
def url(request, tmp_path, templates):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").new_database(templates("postgresql"))
    shutil.copy(templates("sqlite").removeprefix("sqlite:///"), tmp_path / "relay.db")
    return f"sqlite:///{tmp_path}/relay.db"


class Clock:
    """Unix seconds that pass when they are told to."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def store(url, clock):
    opened = await open_store(url, clock=clock)
    yield opened
    await opened.close()
