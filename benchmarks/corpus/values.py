"""What is planted: made-up values of 20 kinds of secret and 5 kinds of personal data, drawn from a seeded generator.

    kind, random --draw()--> Value: the text to plant, what a raw search must not find, the names it goes by

Keys have the forms that their vendors document, with valid checksums where these have any (GitHub, npm: CRC-32 in
base62). Kinds of which a name tells what they are (`password`) have names; others are known by their own form.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from apprentice.text.planted import BASE62, HEX, UPPER, draw, private_key

LOWER36 = string.ascii_lowercase + string.digits
URL_SAFE = BASE62 + "-_"


@dataclass(frozen=True, slots=True)
class Value:
    """A made-up value."""

    text: str
    pieces: tuple[str, ...]
    """What must not be found: of most values the text itself, of a key in PEM its lines."""
    names: tuple[str, ...] = ()
    """In lower case with underscores."""
    literal: str = "{v}"
    """The string of a program that holds it: a URL, a header."""
    knows_itself: bool = False
    """Its form says what it is, wherever it stands."""


def _base62(number: int, length: int) -> str:
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    text = ""
    for _ in range(length):
        number, rest = divmod(number, 62)
        text = digits[rest] + text
    return text


def with_checksum(prefix: str, r: random.Random) -> str:
    """GitHub's and npm's form: 30 random characters and their CRC-32 in six of base62."""
    body = draw(r, BASE62, 30)
    return prefix + body + _base62(zlib.crc32(body.encode()), 6)


def b64url(data: bytes) -> str:
    """base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def jwt(r: random.Random) -> str:
    """A token that is signed with a random key."""
    head = json.dumps({"alg": r.choice(("HS256", "RS256")), "typ": "JWT"}, separators=(",", ":")).encode()
    body = json.dumps({"sub": str(r.randrange(10**9)), "iat": 1_770_000_000 + r.randrange(10**7), "role": "service"}).encode()
    return f"{b64url(head)}.{b64url(body)}.{b64url(r.randbytes(r.choice((32, 256))))}"


_WORDS = (
    "winter", "summer", "copper", "harbor", "falcon", "meadow", "velvet", "cactus", "ribbon", "puzzle", "magnet", "tunnel", "lantern",
    "biscuit", "orchid", "glacier", "thunder", "saffron", "compass", "walnut", "pepper", "marble", "canyon", "sparrow",
)  # fmt: skip


def password(r: random.Random, *, signs: str = "!#$%&*+?@^~") -> str:
    """As people choose and managers generate them; no bare word."""
    one, two = (r.choice(_WORDS) for _ in range(2))
    form = r.randrange(5)
    if form == 0:
        return f"{one.capitalize()}{r.randrange(10, 99)}{r.choice(signs)}{two.capitalize()}"
    if form == 1:
        leet = one.replace("e", "3").replace("o", "0").replace("a", "4")
        return f"{leet}{r.choice(signs)}{two}{r.randrange(100, 9999)}"
    if form == 2:
        return draw(r, BASE62, r.choice((10, 12, 14))) + r.choice(signs) + draw(r, BASE62, 3)
    if form == 3:
        return f"{one}-{two.capitalize()}-{r.choice(_WORDS)}{r.randrange(10, 99)}"
    return draw(r, BASE62, r.choice((12, 16, 20)))


_PUBLIC = re.compile(r"https://hooks\.slack\.com/services/\w+/\w+/|DefaultEndpointsProtocol=.*AccountKey=|Endpoint=sb://.*SharedAccessKey=|;EndpointSuffix.*")
"""Parts of a value that give nothing away."""


def _one_of(*makers: Callable[[random.Random], str], names: tuple[str, ...]) -> Callable[[random.Random], Value]:
    def make(r: random.Random) -> Value:
        text = r.choice(makers)(r)
        return Value(text, (_PUBLIC.sub("", text),), names, knows_itself=True)

    return make


def _named(maker: Callable[[random.Random], str], *names: str) -> Callable[[random.Random], Value]:
    def make(r: random.Random) -> Value:
        text = maker(r)
        return Value(text, (text,), names)

    return make


def _key_in_pem(r: random.Random) -> Value:
    text = private_key(r, r.choice(("RSA ", "", "EC ", "OPENSSH ")))
    return Value(text, tuple(text.splitlines()[1:-2]), ("private_key", "ssh_key", "tls_key"), knows_itself=True)


def _database(r: random.Random) -> Value:
    text = password(r, signs="!~._-")
    login = r.choice(("app", "svc", "postgres", "shop_rw"))
    host = r.choice(("db.internal", "10.12.0.5", "shop-db.cluster-ro.eu-west-1.rds.amazonaws.com", "localhost"))
    form = r.choice((
        "postgresql://{u}:{{v}}@{h}:5432/shop", "mysql+pymysql://{u}:{{v}}@{h}/shop?charset=utf8mb4", "mongodb+srv://{u}:{{v}}@{h}/prod",
        "redis://:{{v}}@{h}:6379/0", "amqp://{u}:{{v}}@{h}:5672/%2F",
    ))  # fmt: skip
    return Value(text, (text,), ("database_url", "db_url", "broker_url"), literal=form.format(u=login, h=host))


def _basic(r: random.Random) -> Value:
    secret = password(r)
    text = base64.b64encode(f"{r.choice(('admin', 'ci', 'deploy'))}:{secret}".encode()).decode()
    return Value(text, (text, secret), ("authorization",), literal="Basic {v}")


def _bearer(r: random.Random) -> Value:
    text = r.choice((lambda: draw(r, BASE62, r.choice((32, 43))), lambda: draw(r, HEX, 40), lambda: draw(r, URL_SAFE, 48)))()
    return Value(text, (text,), ("authorization",), literal="Bearer {v}")


def _cookie(r: random.Random) -> Value:
    text = r.choice((lambda: draw(r, LOWER36, 32), lambda: draw(r, LOWER36, 26), lambda: draw(r, HEX, 32), lambda: draw(r, BASE62, 40)))()
    return Value(text, (text,), ("sessionid",))


def _login(r: random.Random) -> Value:
    text = r.choice((lambda: draw(r, BASE62, 20), lambda: password(r, signs="!~._-")))()
    return Value(text, (text,), ("password",))


SECRETS: dict[str, Callable[[random.Random], Value]] = {
    "aws key id": _one_of(lambda r: r.choice(("AKIA", "ASIA")) + draw(r, UPPER, 16), names=("aws_access_key_id", "access_key")),
    "aws secret": _named(lambda r: draw(r, BASE62 + "+/", 40), "aws_secret_access_key", "aws_secret_key", "s3_secret_access_key"),
    "forge": _one_of(
        lambda r: with_checksum(r.choice(("ghp_", "gho_", "ghs_")), r),
        lambda r: f"github_pat_{draw(r, BASE62, 22)}_{draw(r, BASE62, 59)}",
        lambda r: r.choice(("glpat-", "gldt-", "glrt-")) + draw(r, URL_SAFE[:-1], 20),
        lambda r: "ATBB" + draw(r, BASE62, 32),
        names=("github_token", "gitlab_token", "ci_token"),
    ),
    "slack": _one_of(
        lambda r: f"xoxb-{draw(r, '123456789', 12)}-{draw(r, '123456789', 13)}-{draw(r, BASE62, 24)}",
        lambda r: f"xapp-1-A{draw(r, UPPER, 10)}-{draw(r, '123456789', 13)}-{draw(r, HEX, 64)}",
        lambda r: f"https://hooks.slack.com/services/T{draw(r, UPPER, 10)}/B{draw(r, UPPER, 10)}/{draw(r, BASE62, 24)}",
        names=("slack_token", "slack_webhook", "alert_channel"),
    ),
    "google": _one_of(
        lambda r: "AIza" + draw(r, URL_SAFE, 35), lambda r: "GOCSPX-" + draw(r, URL_SAFE, 28), lambda r: "ya29.a0" + draw(r, URL_SAFE, 120),
        names=("google_api_key", "maps_key", "google_client_secret"),
    ),
    "model": _one_of(
        lambda r: "sk-proj-" + draw(r, URL_SAFE, 74) + "T3BlbkFJ" + draw(r, URL_SAFE, 74), lambda r: f"sk-ant-api03-{draw(r, URL_SAFE, 93)}AA",
        lambda r: "hf_" + draw(r, string.ascii_letters, 34), lambda r: "gsk_" + draw(r, BASE62, 52), lambda r: "r8_" + draw(r, BASE62, 37),
        names=("openai_api_key", "llm_key", "model_token"),
    ),
    "payment": _one_of(
        lambda r: "sk_live_" + draw(r, BASE62, 24), lambda r: "rk_live_51" + draw(r, BASE62, 97), lambda r: "whsec_" + draw(r, BASE62, 32),
        lambda r: "sq0atp-" + draw(r, URL_SAFE, 22), lambda r: "shpat_" + draw(r, HEX, 32),
        names=("stripe_key", "payment_key", "stripe_webhook_secret"),
    ),
    "registry": _one_of(
        lambda r: with_checksum("npm_", r), lambda r: "pypi-" + b64url(b"\x02\x01\x08pypi.org\x02$" + str(uuid.UUID(int=r.getrandbits(128))).encode() + r.randbytes(90)),
        lambda r: "dckr_pat_" + draw(r, URL_SAFE, 27), lambda r: "rubygems_" + draw(r, HEX, 48),
        names=("npm_token", "twine_password", "registry_token"),
    ),
    "messaging": _one_of(
        lambda r: f"SG.{draw(r, URL_SAFE, 22)}.{draw(r, URL_SAFE, 43)}", lambda r: "SK" + draw(r, HEX, 32),
        lambda r: f"{draw(r, '123456789', 10)}:AA{draw(r, URL_SAFE, 33)}", lambda r: f"{draw(r, HEX, 32)}-us{r.randrange(1, 22)}",
        names=("sendgrid_api_key", "bot_token", "mail_key"),
    ),
    "azure": _one_of(
        lambda r: "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=" + base64.b64encode(r.randbytes(64)).decode() + ";EndpointSuffix=core.windows.net",
        lambda r: draw(r, URL_SAFE, 3) + "8Q~" + draw(r, URL_SAFE, 34),
        lambda r: "Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=" + base64.b64encode(r.randbytes(32)).decode(),
        names=("azure_storage_connection_string", "azure_client_secret", "servicebus"),
    ),
    "cloud": _one_of(
        lambda r: "dop_v1_" + draw(r, HEX, 64), lambda r: "hvs." + draw(r, URL_SAFE, 90), lambda r: "dapi" + draw(r, HEX, 32),
        lambda r: "dp.st.prd." + draw(r, BASE62, 43), lambda r: f"glsa_{draw(r, BASE62, 32)}_{draw(r, HEX, 8)}",
        lambda r: "NRAK-" + draw(r, UPPER, 27), lambda r: f"PMAK-{draw(r, HEX, 24)}-{draw(r, HEX, 34)}", lambda r: "tskey-auth-k" + draw(r, BASE62, 11) + "-" + draw(r, BASE62, 32),
        names=("do_token", "vault_token", "databricks_token"),
    ),
    "jwt": _one_of(jwt, names=("service_token", "id_token", "supabase_service_key")),
    "private key": _key_in_pem,
    "database url": _database,
    "password": _named(password, "db_password", "smtp_password", "admin_password", "keystore_pass"),
    "named key": _named(
        lambda r: r.choice((lambda: draw(r, HEX, 32), lambda: draw(r, HEX, 64), lambda: draw(r, BASE62, r.choice((20, 24, 32, 40))),
                            lambda: str(uuid.UUID(int=r.getrandbits(128), version=4))))(),
        "api_key", "client_secret", "secret_key", "signing_key", "encryption_key", "app_secret",
    ),
    "basic header": _basic,
    "bearer": _bearer,
    "cookie": _cookie,
    "login file": _login,
}  # fmt: skip
"""20 kinds."""

_FIRST = (
    "Ingrid", "Tomasz", "Yusuf", "Marisol", "Anneke", "Bartholomew", "Chiara", "Dmitri", "Eleni", "Farid", "Giulia", "Henrik", "Ilse", "Joaquin",
    "Katarzyna", "Leopold", "Mireille", "Nikolai", "Odalys", "Priya", "Quentin", "Rosalind", "Soren", "Tamsin", "Ursula", "Valentina", "Wendell",
    "Ximena", "Yannick", "Zuzana",
)  # fmt: skip
_LAST = (
    "Abernathy", "Bergqvist", "Castellanos", "Dufresne", "Eklund", "Fitzgerald", "Grabowski", "Hakkinen", "Iwasaki", "Jankovic", "Kowalczyk",
    "Lindqvist", "Moriarty", "Nakagawa", "Okonkwo", "Papadakis", "Quintana", "Rasmussen", "Szymanski", "Thorvaldsen", "Ulyanov", "Vandenberg",
    "Wojcik", "Yilmaz", "Zimmermann",
)  # fmt: skip


def _person(r: random.Random) -> tuple[str, str]:
    return r.choice(_FIRST), r.choice(_LAST)


def _email(r: random.Random) -> Value:
    first, last = _person(r)
    local = r.choice((f"{first}.{last}", f"{first[0]}{last}{r.randrange(10, 99)}", f"{first}_{last}+ci")).lower()
    domain = r.choice(("gmail.com", "northwind-labs.io", "uni-heidelberg.de", "mail.acmecorp.com", "proton.me", "corp.shopworks.co.uk"))
    text = f"{local}{r.randrange(100, 999)}@{domain}"
    return Value(text, (text,), ("email",), knows_itself=True)


def _name(r: random.Random) -> Value:
    text = f"{r.choice(_FIRST)} {r.choice(_LAST)}-{r.choice(_LAST)}"
    return Value(text, (text,), ("author",), knows_itself=True)


def _home(r: random.Random) -> Value:
    first, last = _person(r)
    text = r.choice((f"{first[0]}{last}", f"{first}.{last[0]}", last)).lower() + str(r.randrange(10, 99))
    return Value(text, (text,), ("home",), knows_itself=True)


def _phone(r: random.Random) -> Value:
    def digits(count: int) -> str:
        return draw(r, "23456789", count)

    text = r.choice((
        f"+49 {digits(3)} {digits(8)}", f"+1 ({digits(3)}) {digits(3)}-{digits(4)}", f"+44 20 {digits(4)} {digits(4)}", f"+33 6 {digits(2)} {digits(2)} {digits(2)} {digits(2)}",
        f"+1-{digits(3)}-{digits(3)}-{digits(4)}", f"+4670{digits(7)}",
    ))  # fmt: skip
    return Value(text, (text,), ("phone",), knows_itself=True)


def _host(r: random.Random) -> Value:
    text = f"{r.choice(_LAST).lower()}-{r.choice(('thinkpad', 'mbp', 'ws', 'nuc'))}-{draw(r, LOWER36, 4)}"
    return Value(text, (text,), ("hostname",), knows_itself=True)


PERSONAL: dict[str, Callable[[random.Random], Value]] = {
    "email": _email, "author": _name, "home folder": _home, "phone": _phone, "host": _host,
}  # fmt: skip
"""5 kinds. The author is one of the history that is read, the host this machine's: both are known to the redaction."""
