"""What looks like a secret or a person and is none: digests, ids, embedded data, documented examples, placeholders, code.

    random --harmless()--> (kind, text)

Left out, because nobody can say which they are: passwords of test fixtures (`hunter2`), logins of local databases
(`postgres:postgres@localhost`), random keys of a vendor's test mode, salted hashes of passwords.
"""

from __future__ import annotations

import base64
import random
import string
import uuid
from collections.abc import Callable

from apprentice.text.planted import BASE62, HEX, draw

_SOURCE_MAP = b'{"version":3,"sources":["a.ts"],"mappings":"AAAA"}'
_Make = Callable[[random.Random], str]


def _hex(r: random.Random, length: int) -> str:
    return "".join(r.choice(HEX) for _ in range(length))


def _uuid(r: random.Random) -> str:
    return str(uuid.UUID(int=r.getrandbits(128), version=4))


def _sri(r: random.Random) -> str:
    name, size = r.choice((("sha512", 64), ("sha384", 48), ("sha256", 32)))
    return f"{name}-{base64.b64encode(r.randbytes(size)).decode()}"


def _b64(r: random.Random, size: int) -> str:
    return base64.b64encode(r.randbytes(size)).decode()


def _png(r: random.Random, size: int) -> str:
    return base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x20\0\0\0\x20\x08\x06\0\0\0" + r.randbytes(size)).decode()


def _wrapped(text: str, width: int = 76) -> str:
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


def _minified(r: random.Random) -> str:
    names = "abcdefghijklmnopqrstuvwxyz"
    parts = []
    for _ in range(30):
        a, b, c = (r.choice(names) for _ in range(3))
        parts.append(r.choice((
            f"function {a}({b},{c}){{return {b}.{c}?{a}({b}-{r.randrange(9)}):void 0}}", f"var {a}={b}[{r.randrange(99)}]||{c}.call(this,{a}),",
            f"!function(){{{a}.exports={b}({r.randrange(9999)})}}();", f"{a}.prototype.on{b.upper()}{c}=({b},{c})=>{{{a}.key={b};{a}.token={c}}};",
        )))  # fmt: skip
    return "".join(parts)


HARMLESS: dict[str, tuple[tuple[_Make, ...], ...]] = {
    "commit": (
        (lambda r: f"commit {_hex(r, 40)}\nMerge: {_hex(r, 7)} {_hex(r, 7)}\n", lambda r: f"index {_hex(r, 10)}..{_hex(r, 10)} 100644\n"),
        (lambda r: f"HEAD is now at {_hex(r, 9)} Fix the build\n", lambda r: f"https://github.com/psf/black/blob/{_hex(r, 40)}/src/main.py#L10\n",
         lambda r: f"  rev: {_hex(r, 40)}\n", lambda r: f"- uses: actions/checkout@{_hex(r, 40)} # v4.2.2\n"),
        (lambda r: f"{_hex(r, 40)} refs/heads/main\n", lambda r: f"Updating {_hex(r, 7)}..{_hex(r, 7)}\nFast-forward\n", lambda r: f"This reverts commit {_hex(r, 40)}.\n",
         lambda r: f'  "gitHead": "{_hex(r, 40)}",\n'),
    ),
    "digest": (
        (lambda r: f"{_hex(r, 64)}  dist/app-1.4.0.tar.gz\n", lambda r: f"Digest: sha256:{_hex(r, 64)}\nStatus: Downloaded newer image\n"),
        (lambda r: f"FROM python:3.12-slim@sha256:{_hex(r, 64)}\n", lambda r: f"MD5 (app.zip) = {_hex(r, 32)}\n", lambda r: f"ETag: \"{_hex(r, 32)}\"\n",
         lambda r: f'expected = "{_hex(r, 64)}"\nassert hashlib.sha256(data).hexdigest() == expected\n'),
        (lambda r: f"SHA1({r.choice(('a.zip', 'b.tar'))})= {_hex(r, 40)}\n", lambda r: f"sha256sums=('{_hex(r, 64)}')\n", lambda r: f'  "dist.shasum": "{_hex(r, 40)}",\n',
         lambda r: f"image: registry.corp.example/shop@sha256:{_hex(r, 64)}\n", lambda r: f"cache-key: Linux-node-{_hex(r, 64)}\n"),
    ),
    "lock file": (
        (lambda r: f'      "resolved": "https://packages.example/ms/-/ms-2.1.3.tgz",\n      "integrity": "{_sri(r)}",\n', lambda r: f"certifi==2026.1.4 \\\n    --hash=sha256:{_hex(r, 64)}\n"),
        (lambda r: f'name = "serde"\nversion = "1.0.219"\nchecksum = "{_hex(r, 64)}"\n', lambda r: f"golang.org/x/net v0.40.0 h1:{_b64(r, 32)}\n",
         lambda r: f'    {{url = "https://packages.example/packages/{_hex(r, 2)}/{_hex(r, 2)}/{_hex(r, 60)}/six-1.17.0.whl", hash = "sha256:{_hex(r, 64)}"}},\n',
         lambda r: f"  integrity {_sri(r)}\n  resolution: {{integrity: {_sri(r)}}}\n"),
        (lambda r: f'  "node_modules/ms": {{"version": "2.1.3", "integrity": "{_sri(r)}"}},\n', lambda r: f"github.com/pkg/errors v0.9.1/go.mod h1:{_b64(r, 32)}\n",
         lambda r: f'  sha256 "{_hex(r, 64)}"\n  url "https://files.example/app.tar.gz"\n', lambda r: f"  resolution: {{integrity: {_sri(r)}}}\n", lambda r: f'  hash = "sha256-{_b64(r, 32)}";\n'),
    ),
    "uuid": (
        (lambda r: f'{{"request_id": "{_uuid(r)}", "status": 200}}\n', lambda r: f"DELETE FROM orders WHERE id = '{_uuid(r)}';\n"),
        (lambda r: f"traceparent: 00-{_hex(r, 32)}-{_hex(r, 16)}-01\n", lambda r: f"Correlation-Id: {_uuid(r)}\n", lambda r: f"trace={_uuid(r)} span={_hex(r, 16)} took 31 ms\n"),
        (lambda r: f"container {_hex(r, 12)} started, volume {_hex(r, 64)}\n", lambda r: f'"id": "{_uuid(r)}", "parent": "{_uuid(r)}"\n', lambda r: f"X-Amzn-Trace-Id: Root=1-{_hex(r, 8)}-{_hex(r, 24)}\n",
         lambda r: f"UUID={_uuid(r)} / ext4 defaults 0 1\n"),
    ),
    "documented key": (
        (lambda r: "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
         lambda r: 'stripe.api_key = "sk_test_4eC39HqLyjWDarjtT1zdp7dc"\n'),
        (lambda r: "export AWS_ACCESS_KEY_ID=AKIAI44QH8DHBEXAMPLE\nexport AWS_SECRET_ACCESS_KEY=je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY\n",
         lambda r: "curl https://api.stripe.com/v1/charges -u sk_test_BQokikJOvBiI2HlWgH4olfQ2:\n",
         lambda r: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c\n"),
        (lambda r: '{"AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}\n', lambda r: "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\n",
         lambda r: '{"access_token":"2YotnFZFEjr1zCsicMWpAA","token_type":"example","refresh_token":"tGzv3JOkF0XG5Qx2TlKWIA"}\n', lambda r: "const stripe = require('stripe')('sk_test_4eC39HqLyjWDarjtT1zdp7dc');\n"),
    ),
    "embedded data": (
        (lambda r: f'<img src="data:image/png;base64,{_png(r, 240)}" alt="">\n', lambda r: f"@font-face {{ src: url(data:font/woff2;base64,{_b64(r, 180)}) }}\n"),
        (lambda r: f'  "image/png": "{_png(r, 300)}\\n",\n', lambda r: f"begin\n{_wrapped(_png(r, 400))}\n",
         lambda r: f"//# sourceMappingURL=data:application/json;base64,{base64.b64encode(_SOURCE_MAP).decode()}\n"),
        (lambda r: f"background: url('data:image/gif;base64,{_b64(r, 150)}');\n", lambda r: f'ICON = (\n    "{_png(r, 30)}"\n    "{_b64(r, 57)}"\n    "{_b64(r, 57)}"\n)\n',
         lambda r: f'  "fileBytes": "{_png(r, 600)}",\n', lambda r: f"Content-Transfer-Encoding: base64\n\n{_wrapped(_png(r, 500))}\n"),
    ),
    "placeholder": (
        (lambda r: "API_KEY=<your-api-key>\nDB_PASSWORD=changeme\n", lambda r: 'token = os.environ["GITHUB_TOKEN"]\npassword = getpass("Password: ")\n',
         lambda r: "  password: ${DB_PASSWORD}\n  apiKey: ${{ secrets.API_KEY }}\n"),
        (lambda r: "OPENAI_API_KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxx\nSECRET_KEY=replace-me\n", lambda r: "const token = process.env.NPM_TOKEN;\n",
         lambda r: "password: op://prod/database/password\nclient_secret: vault:secret/data/shop#client_secret\n", lambda r: 'curl -H "Authorization: Bearer $TOKEN" https://api.corp.example/\n',
         lambda r: "valueFrom:\n  secretKeyRef:\n    name: shop-db\n    key: password\n", lambda r: "DATABASE_URL=postgres://user:password@localhost:5432/app\n",
         lambda r: 'secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/db"\n', lambda r: "git clone https://${USER}:${TOKEN}@git.corp.example/app.git\n"),
        (lambda r: 'password: ""\ntoken: null\nsecret: {{ .Values.secret }}\n', lambda r: "export GITHUB_TOKEN=ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", lambda r: "DB_PASSWORD=********\nAPI_KEY=[REDACTED]\n",
         lambda r: "aws_secret_access_key = YOUR_SECRET_KEY_HERE\n", lambda r: 'apiKey: import.meta.env.VITE_API_KEY,\nsecret: config.get("secret"),\n', lambda r: "curl -u \"$USER:$PASSWORD\" https://ci.corp.example/\n",
         lambda r: "password = var.db_password\ntoken    = data.vault_generic_secret.ci.data[\"token\"]\n", lambda r: "mysql -u root -p\"$MYSQL_PASSWORD\" shop\n", lambda r: "Enter your password: \nPassword must be at least 12 characters\n"),
    ),
    "code": (
        (lambda r: "def login(user: str, password: str, *, token: str | None = None) -> Session:\n    secret = self._secrets.get(user)\n    return Session(token=token or secret.token)\n",
         lambda r: "cache_key = f\"user:{user_id}:{page}\"\nitems.sort(key=lambda item: item.name)\nmax_tokens=4096\n",
         lambda r: 'token_type = "bearer"\nprimary_key = "order_id"\npassword_field = "password"\n'),
        (lambda r: "const { accessToken, refreshToken } = await auth.refresh(session.refreshToken);\n", lambda r: 'if err := bcrypt.CompareHashAndPassword(user.PasswordHash, []byte(password)); err != nil {\n',
         lambda r: "type Credentials struct {\n\tAPIKey string `json:\"api_key\"`\n\tSecretKey string `json:\"secret_key\"`\n}\n", lambda r: 'assert response.json()["error"] == "invalid_token"\nheaders["X-Api-Key"] = api_key\n',
         lambda r: "keyring.set_password(service_name, username, password)\nSESSION_COOKIE_NAME = \"sessionid\"\nCSRF_COOKIE_SECURE = True\n",
         lambda r: "sort_key=attrgetter('created_at'), secret_key_base_path='config/secrets.yml'\n", lambda r: "pad_token = '<|endoftext|>'\nbos_token_id=1, eos_token='</s>'\ntokenizer = AutoTokenizer.from_pretrained('bert-base-uncased')\n"),
        (lambda r: "for token in tokenizer.tokenize(source):\n    if token.type == TokenType.KEYWORD:\n        yield token.value\n", lambda r: "const key = `${prefix}:${userId}:v2`;\nawait redis.set(key, JSON.stringify(value));\n",
         lambda r: 'self.assertEqual(form.errors["password2"], ["The two password fields didn\'t match."])\n', lambda r: "public_key = private_key.public_key()\nsignature = private_key.sign(payload, padding.PKCS1v15(), hashes.SHA256())\n",
         lambda r: "password_hash = generate_password_hash(password, method='pbkdf2:sha256:600000')\n", lambda r: "foreign_key: 'customer_id_v2', secret_version: 'projects/shop/secrets/db/versions/3'\n",
         lambda r: "SESSION_ENGINE = 'django.contrib.sessions.backends.signed_cookies'\nAUTH_PASSWORD_VALIDATORS = []\n"),
    ),
    "public key": (
        (lambda r: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{draw(r, BASE62, 43)} dev@example.com\n", lambda r: f"-----BEGIN CERTIFICATE-----\n{_wrapped(_b64(r, 400), 64)}\n-----END CERTIFICATE-----\n"),
        (lambda r: f"-----BEGIN PUBLIC KEY-----\n{_wrapped(_b64(r, 270), 64)}\n-----END PUBLIC KEY-----\n", lambda r: f"SHA256:{_b64(r, 32).rstrip('=')} (ED25519)\n",
         lambda r: f"github.com ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB{_b64(r, 250)}\n"),
        (lambda r: f"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABB{_b64(r, 65)} ci\n", lambda r: f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{_wrapped(_b64(r, 400), 64)}\n-----END PGP PUBLIC KEY BLOCK-----\n",
         lambda r: f"age1{draw(r, string.ascii_lowercase + '023456789', 58)}\n", lambda r: f"public-key-pins: pin-sha256=\"{_b64(r, 32)}\"\n"),
    ),
    "name of a file or machine": (
        (lambda r: f"dist/assets/index-{draw(r, BASE62, 8)}.js  142.10 kB\n", lambda r: f"web-7d9c5b8f6-{draw(r, string.ascii_lowercase + string.digits, 5)}   1/1   Running   0   3d\n"),
        (lambda r: f"https://www.youtube.com/watch?v={draw(r, BASE62, 11)}\n", lambda r: f"i-{_hex(r, 17)} subnet-{_hex(r, 17)} running\n", lambda r: f"/tmp/pytest-of-dev/pytest-12/test_{_hex(r, 8)}/out.txt\n",
         lambda r: f"src/__snapshots__/{draw(r, BASE62, 20)}.snap\n", lambda r: f"arn:aws:iam::123456789012:role/shop-deploy-{_hex(r, 8)}\n"),
        (lambda r: f"static/js/main.{_hex(r, 8)}.chunk.js\n", lambda r: f"s3://shop-artifacts/builds/{_hex(r, 32)}/app.zip\n", lambda r: f"https://docs.google.com/document/d/e/{draw(r, BASE62, 8)}/edit\n",
         lambda r: f"node-{draw(r, string.ascii_lowercase + string.digits, 10)}-{draw(r, string.ascii_lowercase + string.digits, 5)} Ready\n", lambda r: f"/nix/store/{draw(r, '0123456789abcdfghijklmnpqrsvwxyz', 32)}-python3-3.12.4\n"),
    ),
    "number and version": (
        (lambda r: f"app {r.randrange(9)}.{r.randrange(20)}.{r.randrange(99)}+build.{r.randrange(10**8, 10**9)} on 127.0.0.1:{r.randrange(3000, 9000)}\n", lambda r: f"elapsed={r.random():.15f} at {r.randrange(10**12, 2 * 10**12)}\n"),
        (lambda r: f"coordinates: [{r.random() * 90:.14f}, {-r.random() * 90:.14f}]\n", lambda r: f"+{r.randrange(10**6, 10**7)} -{r.randrange(10**5)} lines, {r.randrange(10**10, 10**11)} bytes\n",
         lambda r: f"order 2026-{r.randrange(10, 99)}-{r.randrange(1000, 9999)}-{r.randrange(10**6, 10**7)}, tracking 00340434161094{r.randrange(100000, 999999)}\n", lambda r: f"x = a +{r.randrange(10**11, 10**12)} * 2\n"),
        (lambda r: f"took {r.random() * 100:.12f} s, {r.randrange(10**9, 10**10)} cycles\n", lambda r: f"v{r.randrange(9)}.{r.randrange(20)}.0-rc.{r.randrange(9)}+{r.randrange(10**13, 10**14)}\n",
         lambda r: f"192.168.{r.randrange(255)}.{r.randrange(255)} 10.0.{r.randrange(255)}.1 ::1 fe80::1c2:3ff:fe4:{r.randrange(1000, 9999)}\n", lambda r: f"| {r.randrange(10**6)} | {r.randrange(10**6)} | +{r.randrange(10**5)} | {r.random():.6f} |\n", lambda r: f"ISBN 978-3-16-14841{r.randrange(10)}-0, DOI 10.1000/{r.randrange(100, 999)}.{r.randrange(1000, 9999)}\n"),
    ),
    "no person": (
        (lambda r: "mail user@example.com or admin@example.org\n", lambda r: "git clone git@github.com:psf/black.git /home/runner/work/black\n", lambda r: "call +1 555 0100 or 555-0123\n"),
        (lambda r: "@app.route('/users')\nresult = weights@inputs.T\nnpm install @scope/pkg@1.2.3\n", lambda r: "-rw-r--r-- 1 root root 120 Mar  4 10:12 /home/user/.bashrc\n", lambda r: "pip install git+https://github.com/psf/black.git@24.1.0\n",
         lambda r: "rsync -a dist/ deploy@10.0.0.5:/srv/app/\nssh ubuntu@ec2-3-120-1-2.compute.internal uptime\n", lambda r: "Dear colleague, thanks to the Ada Lovelace Institute and to Grace Hopper College\n"),
        (lambda r: "Contact: support@example.com, you@example.net\n", lambda r: "x = a @ b.T\ny = m.@attr\n", lambda r: "cd /home/runner/work && ls /Users/runner\n", lambda r: "tel. +1 212 555 0199, ext. 12\n",
         lambda r: "docker pull ghcr.io/astral-sh/uv@sha256:latest\nuses: docker/login-action@v3.1.0\n", lambda r: "npx create-next-app@15.1.0 shop && npm i react@rc react-dom@19.0.0\n"),
    ),
    "minified": ((lambda r: _minified(r) + "\n",), (lambda r: f"(()=>{{{_minified(r)}}})();\n//# sourceMappingURL=main.{_hex(r, 20)}.js.map\n",),
        (lambda r: f"!function(e,t){{{_minified(r)}}}(window,document);\n",),
    ),
}  # fmt: skip
"""kind -> texts of the three sets of `places`."""


def harmless(r: random.Random, part: int) -> tuple[str, str]:
    """(kind, text) of one."""
    kind = r.choice(list(HARMLESS))
    return kind, r.choice(HARMLESS[kind][part])(r)
