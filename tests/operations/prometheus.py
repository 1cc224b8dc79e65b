"""A Prometheus of the test's own, asked by its HTTP interface."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import aiohttp

POLL_SECONDS = 0.25


class Prometheus:
    """Asks; every wait is a poll with a deadline."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http
        self.began = time.time()

    async def ask(self, expr: str) -> list[dict[str, Any]]:
        """The answer to an instant query: a list of samples."""
        return await self._get("query", query=expr)

    async def history(self, expr: str) -> list[dict[str, Any]]:
        """The answer over the whole run, a point a second, as Grafana asks."""
        span = {"start": f"{self.began:.3f}", "end": f"{time.time() + 1:.3f}", "step": "1"}
        return await self._get("query_range", query=expr, **span)

    async def has_data(self, expr: str) -> bool:
        """Whether there is one number in it, at any time of the run."""
        found = await self.history(expr)
        return any(not math.isnan(float(value)) for series in found for _, value in series["values"])

    async def number(self, expr: str) -> float:
        """The sum of an instant query; 0 for none."""
        return sum(float(sample["value"][1]) for sample in await self.ask(expr))

    async def until(self, expr: str, wanted: Callable[[float], bool], seconds: float) -> float:
        """Wait for a value; returns how many seconds that took. Raises TimeoutError with the last value."""
        began, last = time.monotonic(), math.nan
        while time.monotonic() - began < seconds:
            last = await self.number(expr)
            if wanted(last):
                return time.monotonic() - began
            await asyncio.sleep(POLL_SECONDS)
        raise TimeoutError(f"{expr} is {last} after {seconds:g} s")

    async def firing(self, alert: str, seconds: float) -> None:
        """Wait until an alert fires."""
        await self.until(f'ALERTS{{alertname="{alert}",alertstate="firing"}}', lambda count: count >= 1, seconds)

    async def fired(self) -> set[tuple[str, str]]:
        """Every alert that fired at any time, with its severity."""
        found = await self.history('ALERTS{alertstate="firing"}')
        return {(series["metric"]["alertname"], series["metric"]["severity"]) for series in found}

    async def _get(self, path: str, **asked: str) -> Any:
        async with self._http.get(f"{self._url}/api/v1/{path}", params=asked) as response:
            answer = await response.json()
        assert answer["status"] == "success", (asked, answer)
        data = answer["data"]
        return data["result"] if isinstance(data, dict) else data
