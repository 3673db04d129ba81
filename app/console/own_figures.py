"""Prometheus' text without the figures of other tenants.

Knows the format no further than it needs: a sample is a line, and a label reads `tenant="name"`.
"""

import re

_TENANT = re.compile(r'[{,][A-Za-z0-9_]*tenant="([^"]*)"')


def own_figures(exposition: str, tenant: str) -> str:
    """`exposition` without the samples that another tenant is named on; those that name none stay."""
    kept = []
    for line in exposition.splitlines(keepends=True):
        named = None if line.startswith("#") else _TENANT.search(line)
        if named is None or named[1] in ("", tenant):
            kept.append(line)
    return "".join(kept)
