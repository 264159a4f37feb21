"""Made-up secrets to plant where they must not come out: for tests of the whole path and for canaries.

    seed --VENDOR_KEYS, private_key(), environment_secret()--> a secret
    secret --DISGUISES--> text that contains it;  text with secrets --WRAPPINGS--> the same text in disguise
    secret --traces()--> what a raw search through written files must not find

Nothing here is a real key: everything is drawn from a seeded generator.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable
from urllib.parse import quote

BASE62 = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + "234567"


def draw(random_: random.Random, alphabet: str, length: int) -> str:
    """With a digit and both cases where the alphabet has them, as nearly every real key."""
    while True:
        text = "".join(random_.choice(alphabet) for _ in range(length))
        wanted = [kind for kind in (string.digits, string.ascii_lowercase, string.ascii_uppercase) if set(kind) <= set(alphabet)]
        if all(set(text) & set(kind) for kind in wanted):
            return text


VENDOR_KEYS: dict[str, Callable[[random.Random], str]] = {
    "aws id": lambda r: "AKIA" + draw(r, UPPER, 16),
    "github": lambda r: "ghp_" + draw(r, BASE62, 36),
    "github fine": lambda r: "github_pat_" + draw(r, BASE62, 22) + "_" + draw(r, BASE62, 59),
    "gitlab": lambda r: "glpat-" + draw(r, BASE62, 20),
    "slack": lambda r: f"xoxb-{draw(r, '123456789', 12)}-{draw(r, '123456789', 13)}-{draw(r, BASE62, 24)}",
    "google": lambda r: "AIza" + draw(r, BASE62 + "_-", 35),
    "openai": lambda r: "sk-proj-" + draw(r, BASE62, 48),
    "anthropic": lambda r: "sk-ant-api03-" + draw(r, BASE62 + "_-", 93) + "AA",
    "stripe": lambda r: "sk_live_" + draw(r, BASE62, 24),
    "sendgrid": lambda r: f"SG.{draw(r, BASE62, 22)}.{draw(r, BASE62, 43)}",
    "twilio": lambda r: "SK" + draw(r, HEX, 32),
    "npm": lambda r: "npm_" + draw(r, BASE62, 36),
    "pypi": lambda r: "pypi-AgEIcHlwaS5vcmc" + draw(r, BASE62, 70),
    "hugging face": lambda r: "hf_" + draw(r, BASE62, 34),
    "digitalocean": lambda r: "dop_v1_" + draw(r, HEX, 64),
    "telegram": lambda r: f"{draw(r, '123456789', 10)}:AA{draw(r, BASE62, 33)}",
}


def private_key(r: random.Random, name: str = "RSA ") -> str:
    lines = [draw(r, BASE62 + "+/", 64) for _ in range(8)] + [draw(r, BASE62, 30) + "=="]
    return "\n".join([f"-----BEGIN {name}PRIVATE KEY-----", *lines, f"-----END {name}PRIVATE KEY-----"])


def environment_secret(r: random.Random) -> tuple[str, str]:
    """(a random value, text in which its name or place tells what it is)."""
    name = r.choice(NAMES)
    value = draw(r, BASE62, r.choice((16, 20, 32, 40)))
    return value, r.choice(PLACES).format(name=name, lower=name.lower(), value=value)


def split_in_two(secret: str) -> tuple[str, str]:
    half = len(secret) // 2
    return secret[:half], secret[half:]


NAMES = (
    "DB_PASSWORD", "SECRET_KEY", "GITHUB_TOKEN", "API_KEY", "AWS_SECRET_ACCESS_KEY", "POSTGRES_PASS", "JWT_SECRET",
    "STRIPE_API_KEY", "NPM_AUTH_TOKEN", "MYSQL_PWD",
)  # fmt: skip
PLACES = (
    "HOME=/root\n{name}={value}\nPATH=/bin\n",
    'export {name}="{value}"\n',
    "{lower} = '{value}'\n",
    '{{"{lower}": "{value}", "x": 1}}\n',
    "env:\n  {name}: {value}\n  OTHER: 1\n",
    'os.environ["{name}"] = "{value}"\n',
    'os.environ.setdefault("{name}", "{value}")\n',
    "docker run -e {name}={value} image\n",
    'connect({lower}="{value}", user="x")\n',
    "postgresql://app:{value}@db.internal:5432/main\n",
    "curl -H 'Authorization: Bearer {value}' https://api\n",
    "client --password {value} --verbose\n",
    "machine host login me password {value}\n",
    "<password>{value}</password>\n",
)

WRAPPINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "base64": lambda text: base64.b64encode(text.encode()).decode() + "\n",
    "wrapped base64": lambda text: base64.encodebytes(text.encode() * 3).decode(),
    "json": lambda text: json.dumps({"out": text}),
    "json in json": lambda text: json.dumps(json.dumps({"out": text})),
    "hexadecimal": lambda text: text.encode().hex(),
    "url": lambda text: quote(text, safe=""),
    "diff": lambda text: "".join(f"+{line}\n" for line in text.splitlines()),
    "quoted": lambda text: "".join(f"> {line}\n" for line in text.splitlines()),
    "literal": lambda text: f"x = {text!r}\n",
    "comment": lambda text: "".join(f"# {line}\n" for line in text.splitlines()),
}

DISGUISES: dict[str, Callable[[str], str]] = {
    "code": lambda s: f'client = Client(\n    "{s}",\n)\n',
    "bare": lambda s: f"use {s} for now\n",
    "shell": lambda s: f"export SERVICE_TOKEN={s}\n./deploy\n",
    "yaml": lambda s: f"service:\n  token: {s}\n  retries: 3\n",
    "environment": lambda s: f"HOME=/root\nSERVICE_TOKEN={s}\nPATH=/usr/bin\n",
    "json": lambda s: json.dumps({"env": [f"TOKEN={s}\n"], "text": f'"{s}"\n'}),
    "json in json": lambda s: json.dumps({"body": json.dumps({"token": f"{s}\n", "x": f"a\n{s}"})}),
    "unicode escapes": lambda s: '{"t": "' + "".join(f"\\u{ord(c):04x}" for c in s) + '"}',
    "base64": lambda s: f'data = "{base64.b64encode(s.encode()).decode()}"\n',
    "base64 of a dump": lambda s: base64.encodebytes(f"USER=x\nSERVICE_TOKEN={s}\nSHELL=/bin/sh\n".encode()).decode(),
    "base64 twice": lambda s: base64.b64encode(base64.b64encode(f"token={s}".encode())).decode(),
    "hexadecimal": lambda s: f"blob = bytes.fromhex('{s.encode().hex()}')\n",
    "url": lambda s: f"https://host/?next=%2Fx&token%3D{quote(s, safe='')}\n",
    "percent": lambda s: "".join(f"%{byte:02X}" for byte in s.encode()),
    "two literals": lambda s: 'key = (\n    "{}"\n    "{}"\n)\n'.format(*split_in_two(s)),
    "added literals": lambda s: 'key = "{}" + \\\n      "{}"\n'.format(*split_in_two(s)),
    "plus in front": lambda s: 'key = "{}"\n    + "{}";\n'.format(*split_in_two(s)),
    "wrapped": lambda s: "the key is\n{}\n{}\nthanks\n".format(*split_in_two(s)),
    "backslash": lambda s: "TOKEN={}\\\n{}\n".format(*split_in_two(s)),
    "diff": lambda s: f"@@ -1 +1 @@\n-old\n+token = '{s}'\n",
    "quoted diff": lambda s: '+key = "{}"\n+    "{}"\n'.format(*split_in_two(s)),
    "comment": lambda s: "# key: {}\n# {}\n".format(*split_in_two(s)),
    "ansi": lambda s: f"\x1b[32m{s}\x1b[0m\n",
    "html": lambda s: f"<td>&quot;{s}&quot;</td>\n",
}


def traces(secret: str) -> list[str]:
    """What a raw search would look for: the secret, its halves, and what it looks like inside base64 at any place."""
    found = [secret, *(half for half in split_in_two(secret) if len(half) >= 8)]
    for shift in range(3):
        coded = base64.b64encode(b"x" * shift + secret.encode()).decode().rstrip("=")
        found.append(coded[4 if shift else 0 : -2])
    return [*found, secret.encode().hex(), quote(secret, safe="")]
