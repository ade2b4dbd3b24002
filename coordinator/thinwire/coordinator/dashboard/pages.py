"""All pages."""

from __future__ import annotations

from fastapi import APIRouter

from . import actions, happenings, invites, login, people, runs, static

router = APIRouter(include_in_schema=False)
for pages in (runs, actions, people, invites, happenings, login, static):
    router.include_router(pages.router)
