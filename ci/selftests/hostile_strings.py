"""Five hundred strings that would act on a page that is written carelessly.

Where a script runs it sets `window.__ran`; none asks the network for anything that answers.
"""

from __future__ import annotations

import random
from itertools import product

from claimlens.ci.selftests.browser import SENTINEL

ACT = f"window.{SENTINEL}=1"
NOWHERE = "https://nowhere.invalid/x"
CLOSERS = (
    "", '"', "'", '">', "'>", "`>", "-->", "]]>", "</title>", "</style>", "</script>",
    "</textarea>", "</svg>", "</desc>", "</td></tr></table>", "</details>", "</pre>", "&quot;>",
    "\\\">", "\x00>",
)  # fmt: skip
PAYLOADS = (
    f"<script>{ACT}</script>",
    f"<ScRiPt>{ACT}</sCrIpT>",
    f"<script/x>{ACT}</script >",
    f"<svg onload={ACT}>",
    f"<svg><script>{ACT}</script></svg>",
    f"<svg><animate onbegin={ACT} attributeName=x dur=1s>",
    f"<img src=x onerror={ACT}>",
    f'<img src="x" onerror="{ACT}" x=\'',
    f"<body onload={ACT}>",
    f"<details open ontoggle={ACT}>",
    f"<input autofocus onfocus={ACT}>",
    f'<iframe srcdoc="<script>parent.{SENTINEL}=1</script>">',
    f"<iframe src=javascript:parent.{SENTINEL}=1>",
    f"<a href=javascript:{ACT}>x</a>",
    f"javascript:{ACT}",
    f' onmouseover="{ACT}" x="',
    f"' onfocus='{ACT}' tabindex=1 autofocus x='",
    f" onclick={ACT} ",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(document.domain)>",
    f"<img src={NOWHERE}>",
    f"<link rel=stylesheet href={NOWHERE}>",
    f"<meta http-equiv=refresh content='0;url={NOWHERE}'>",
    f"<base href={NOWHERE}>",
    f"<form action={NOWHERE}><button>x</button></form>",
    f"<object data={NOWHERE}></object><embed src={NOWHERE}>",
    "<style>*{display:none}</style>",
    "<div style='position:fixed;inset:0;width:9999px'>x</div>",
    f"}}*{{background:url({NOWHERE})}}",
    f"@import '{NOWHERE}';",
    "expression(alert(1))",
    "\\3c script\\3e",
    "{{ 70707*70707 }}",
    "{% for x in range(9) %}{{ x }}{% endfor %}",
    "{{ cycler.__init__.__globals__ }}{# x #}",
    "${7*7} #{7*7} <%= 7*7 %>",
    "<!-- --!> <![CDATA[ x ]]> <?xml version='1.0'?>",
    "&lt;script&gt;&#60;&#x3c;&NotAnEntity;",
    "<plaintext>",
    "<table><tr><td>",
)
SPOKEN = (
    "\u202egnp.exe\u2066", "\u2067\u2069\u200e\u200f", "a\u200b\u200c\u200d\ufeffb",
    "\x00\x01\x1b[31m",
    "a\r\nb\n\nc\td", "\u2028\u2029\x85\x0b\x0c", "\ud800", "\ufffe\uffff", "e\u0301" * 40,
    "Z\u0351\u036b\u0343" * 30, "שלום עולם", "مرحبا", "😀👨\u200d👩\u200d👧", "日本語" * 60,
    "", " ", "." * 300,
    "../../etc/passwd", "C:\\con", "a/b/c", "%00%2e%2e", "-" * 40, "x" * 10_000, "<" * 3000,
    "&" * 3000, "W" * 400, "\u00a0" * 200, "a " * 5000, "'\"`", "--><!--", "#topic=x&y",
    "null", "NaN",
)  # fmt: skip


def strings(count: int = 500, seed: int = 0) -> list[str]:
    """All that is listed, then closers with payloads at random; no two are the same."""
    found = list(dict.fromkeys((*SPOKEN, *PAYLOADS)))
    pairs = [closer + payload for closer, payload in product(CLOSERS[1:], PAYLOADS)]
    rng = random.Random(seed)
    rng.shuffle(pairs)
    noisy = (f"{rng.choice(SPOKEN[:15])}{pair}" if rng.random() < 0.3 else pair for pair in pairs)
    for each in noisy:
        if len(found) == count:
            break
        if each not in found:
            found.append(each)
    return found
