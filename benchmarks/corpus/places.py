"""Where values stand in real life: templates of three sets, two to find weaknesses with and one to report.

Fields of a template: `{v}` the value, or with `{L}` the whole string that holds it (a URL, a header); `{n}` its name in
lower case, `{N}` in capitals, `{c}` camelCase, `{C}` CamelCase, `{k}` with hyphens. `FIRST` was looked at while rules were
written. `SECOND` was held out once, and then looked at. `HELD` was written after that; it was looked at once, after its first
measurement, which `docs/log.md` has.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Places:
    """Templates for values behind names, for values that are known by their form, and of single kinds."""

    named: tuple[str, ...]
    bare: tuple[str, ...]
    own: dict[str, tuple[str, ...]]
    split: tuple[str, ...]
    """Over lines; `{a}` and `{b}` are the halves of the string."""
    added: tuple[str, ...]
    """Halves on one line."""


FIRST = Places(
    named=(
        "APP_ENV=production\n{N}={L}\nLOG_LEVEL=info\n",
        "HOSTNAME=web-1\nSHLVL=1\n{N}={L}\nPWD=/app\nLANG=C.UTF-8\n",
        'import os\n\n{N} = "{L}"\nTIMEOUT_S = 30\n',
        'client = connect(\n    region="eu-west-1",\n    {n}="{L}",\n    retries=3,\n)\n',
        "services:\n  worker:\n    image: worker:1.4\n    environment:\n      - {N}={L}\n      - QUEUE=default\n",
        "production:\n  region: eu-west-1\n  {n}: {L}\n  retries: 3\n",
        '{{\n  "region": "eu-west-1",\n  "{c}": "{L}",\n  "retries": 3\n}}\n',
        'Traceback (most recent call last):\n  File "app/worker.py", line 88, in start\n    client = connect({n}="{L}")\nConnectionError: refused\n',
        "docker run --rm -e {N}='{L}' -p 8080:8080 worker:1.4\n",
        'os.environ.setdefault("{N}", "{L}")\n',
    ),
    bare=(
        "I pasted the key here, it is {v} - does that look right?\n",
        'curl -sS https://api.corp.example/v1/items -H "X-Auth: {v}"\n',
        "    return Client('{v}', timeout=30)\n",
        "> the old one was {v}\n> and it still works\n",
    ),
    own={
        "aws secret": ("[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = {v}\n",),
        "private key": ("cat > deploy.pem <<'EOF'\n{v}\nEOF\nchmod 600 deploy.pem\n", 'KEY = """{v}\n"""\n', "$ cat ~/.ssh/id\n{v}\n"),
        "database url": (
            "DATABASE_URL={L}\nDEBUG=0\n", 'engine = create_engine("{L}", pool_size=5)\n', "sqlalchemy.exc.OperationalError: could not connect to {L}\n",
            "git clone https://ci:{v}@git.corp.example/shop/app.git\n",
        ),
        "password": (
            "mysql -h db.internal -u root -p{v} shop < dump.sql\n", "curl -u admin:{v} https://ci.corp.example/job/build\n",
            "sshpass -p '{v}' ssh deploy@10.0.0.5 uptime\n", "the staging password is {v}\n",
        ),
        "basic header": ('curl -H "Authorization: Basic {v}" https://ci.corp.example/api\n', "GET /api HTTP/1.1\nHost: ci.corp.example\nAuthorization: Basic {v}\n"),
        "bearer": ('curl -H "Authorization: Bearer {v}" https://api.corp.example/v1/me\n', 'headers = {{"Authorization": "Bearer {v}", "Accept": "*/*"}}\n'),
        "cookie": ("< Set-Cookie: sessionid={v}; HttpOnly; Path=/\n", "Cookie: csrftoken=ab12; sessionid={v}\n", "document.cookie = 'PHPSESSID={v}; path=/'\n"),
        "login file": (
            "machine git.corp.example\nlogin ci\npassword {v}\n", "db.internal:5432:shop:app:{v}\n", "//registry.corp.example/:_authToken={v}\n",
        ),
        "email": ("mail {v} when it is done\n", "Signed-off-by: I <{v}>\n", '    author_email="{v}",\n'),
        "author": ("Co-authored-by: {v} <bot@example.com>\n", "# written by {v}, 2024\n", "commit 3 by {v}:\n"),
        "home folder": ('  File "/home/{v}/work/shop/app/main.py", line 3, in <module>\n', "cd /Users/{v}/src/shop && make\n"),
        "phone": ("call me at {v} before noon\n", '  "phone": "{v}",\n'),
        "host": ("dev@{v}:~/shop$ make test\n", "Linux {v} 6.8.0-45-generic #45-Ubuntu SMP x86_64 GNU/Linux\n"),
    },
    split=(
        '{n} = (\n    "{a}"\n    "{b}"\n)\n', '{n} = "{a}" \\\n    "{b}"\n', 'String {c} = "{a}"\n        + "{b}";\n', "{N}={a}\\\n{b}\n./deploy\n",
    ),
    added=('{n} = "{a}" + "{b}"\n', 'config.set("{n}", "{a}" + "{b}")\n'),
)

SECOND = Places(
    named=(
        "export {N}='{L}'\nexport EDITOR=vim\n",
        '[service]\nregion = "eu-central-1"\n{n} = "{L}"\ntimeout = 20\n',
        "const config = {{\n  region: 'eu-central-1',\n  {c}: '{L}',\n}};\n",
        'env:\n  - name: {N}\n    value: "{L}"\n  - name: PORT\n    value: "8080"\n',
        '$env:{N} = "{L}"\npython manage.py migrate\n',
        "FROM python:3.12\nENV {N}={L}\nRUN pip install -r requirements.txt\n",
        "cat > .env <<'EOF'\nPORT=8080\n{N}={L}\nEOF\n",
        'module "worker" {{\n  region = "eu-central-1"\n  {n} = "{L}"\n}}\n',
        "2026-03-04 10:12:01,332 DEBUG settings: {{'region': 'eu-central-1', '{n}': '{L}'}}\n",
        "server.port=8080\napp.{n}={L}\napp.debug=false\n",
        'func main() {{\n\tcfg.{C} = "{L}"\n\trun(cfg)\n}}\n',
        '  {c}: process.env.{N} || "{L}",\n',
        "./deploy --{k} '{L}' --region eu-central-1\n",
        "Run ./deploy.sh\n  env:\n    {N}: {L}\n    CI: true\n",
        "+ export {N}={L}\n+ ./migrate.sh\n",
        "E       assert Settings({n}='{L}') == Settings({n}='')\n",
    ),
    bare=(
        "use {v} for the staging calls, it expires on Friday\n",
        "| staging | `{v}` | ops |\n",
        'E   AssertionError: assert "{v}" == ""\n',
        "GET /v1/items?since=3 -> 401 (sent {v})\n",
        "- [ ] rotate {v}\n",
    ),
    own={
        "aws secret": ('    "AccessKey": {{\n        "Status": "Active",\n        "SecretAccessKey": "{v}"\n    }}\n', 'provider "aws" {{\n  region     = "eu-central-1"\n  secret_key = "{v}"\n}}\n'),
        "private key": ("tls:\n  key: |\n{v:indent}\n  cert: /etc/tls/cert.pem\n", 'const key = `{v}`;\n', '{{"type": "service_account", "private_key": "{v:escaped}\\n"}}\n'),
        "database url": (
            "SQLALCHEMY_DATABASE_URI = '{L}'\n", "spring.datasource.url=jdbc:postgresql://db.internal/shop?user=app&password={v}\n",
            "Server=db.internal;Database=shop;User Id=app;Password={v};Encrypt=true\n", 'db, err := sql.Open("mysql", "app:{v}@tcp(db.internal:3306)/shop")\n',
            "psql 'host=db.internal user=app password={v} dbname=shop'\n", "origin  https://deploy:{v}@git.corp.example/shop/app.git (fetch)\n",
        ),
        "password": (
            "PGPASSWORD='{v}' psql -h db.internal -U app shop\n", "ALTER USER app WITH PASSWORD '{v}';\n", "redis-cli -h cache.internal -a '{v}' ping\n",
            "docker login -u ci -p '{v}' registry.corp.example\n", "log in as admin with password {v}\n",
        ),
        "basic header": ("> GET /api HTTP/2\n> authorization: Basic {v}\n> accept: */*\n", "  headers: {{ 'Authorization': 'Basic {v}' }},\n"),
        "bearer": ("    headers: {{ Authorization: `Bearer {v}` }},\n", "> authorization: Bearer {v}\n> accept: */*\n", 'req.Header.Set("Authorization", "Bearer {v}")\n'),
        "cookie": (
            "curl 'https://shop.corp.example/cart' -H 'cookie: theme=dark; session={v}'\n", "Set-Cookie: connect.sid={v}; Path=/; Secure; SameSite=Lax\n",
            'cookies = {{"JSESSIONID": "{v}"}}\n', "curl -b 'laravel_session={v}' https://shop.corp.example/\n",
        ),
        "login file": (
            "[client]\nuser=app\npassword={v}\n", "[corp]\nrepository = https://pypi.corp.example\nusername = ci\npassword = {v}\n",
            "<server>\n  <id>corp</id>\n  <username>ci</username>\n  <password>{v}</password>\n</server>\n",
            "machine api.corp.example login ci password {v}\n", "users:\n- name: admin\n  user:\n    username: admin\n    password: {v}\n",
        ),
        "email": ("To: {v}\nSubject: release\n", "git config user.email {v}\n", "- owner: {v}\n  team: web\n"),
        "author": ("Author: {v}\n", "Reviewed by {v}.\n", '  "contributors": ["{v}"],\n'),
        "home folder": ("-rw-r--r-- 1 dev dev 120 Mar  4 10:12 /home/{v}/.bashrc\n", "C:\\Users\\{v}\\AppData\\Local\\Temp\\pip.log\n", "export GOPATH=/Users/{v}/go\n"),
        "phone": ("Tel.: {v}\n", "our pager is {v}, day and night\n"),
        "host": ("ssh: connect to host {v} port 22: Connection refused\n", "Mar 04 10:12:01 {v} sshd[811]: Accepted publickey\n"),
    },
    split=(
        "const {c} = '{a}' +\n  '{b}';\n", "{n}: >-\n  {a}\n  {b}\nregion: eu\n", '{N} = ("{a}"\n       "{b}")\n', "export {N}={a}\\\n{b}\nmake\n", "${c} = '{a}'\n    . '{b}';\n",
    ),
    added=("var {c} = '{a}' + '{b}';\n", "${c} = '{a}' . '{b}';\n", 'static const char *{n} = "{a}" "{b}";\n'),
)

HELD = Places(
    named=(
        '[Service]\nEnvironment="{N}={L}"\nRestart=always\n',
        "return [\n    'region' => 'ap-south-1',\n    '{n}' => '{L}',\n];\n",
        '<appSettings>\n  <add key="{C}" value="{L}" />\n</appSettings>\n',
        "docker run -d \\\n  -e {N}={L} \\\n  -e TZ=UTC \\\n  worker:2.0\n",
        "set -gx {N} {L}\nset -gx PAGER less\n",
        "$ heroku config:set {N}={L} --app shop\n",
        "kubectl create secret generic shop --from-literal={n}='{L}'\n",
        "terraform apply -var '{n}={L}' -auto-approve\n",
        'let {n}: &str = "{L}";\nlet retries = 4;\n',
        'private static final String {N} = "{L}";\n',
        'with mock.patch.dict(os.environ, {{"{N}": "{L}"}}):\n    run()\n',
        "| Variable | Value |\n|---|---|\n| {N} | {L} |\n| TZ | UTC |\n",
        "settings.{n} = '{L}'  # move to the vault\n",
        "time=2026-05-06T07:08:09Z level=debug msg=\"loaded\" {n}={L} region=ap-south-1\n",
        "-   {n}: old\n+   {n}: {L}\n",
        "$ printenv {N}\n{L}\n$ \n",
        "  {C}:\n    Type: String\n    Default: {L}\n",
        'config :shop, {n}: "{L}"\n',
    ),
    bare=(
        "> {v}\nis that one still valid?\n",
        "rejected: {v} (expired)\n",
        "  - '{v}'\n  - 'other'\n",
        "if (key === '{v}') {{ return true; }}\n",
        "    at fetch (https://api.corp.example/v2/items?key={v})\n",
    ),
    own={
        "aws secret": (
            "{{\n  \"Credentials\": {{\n    \"SecretAccessKey\": \"{v}\",\n    \"Expiration\": \"2026-05-06T07:08:09Z\"\n  }}\n}}\n",
            "boto3.client('s3', aws_secret_access_key='{v}')\n", "AWS Secret Access Key [None]: {v}\n",
        ),
        "private key": ("{v}\n", "echo '{v}' | ssh-add -\n", 'SIGNING_KEY="{v:escaped}"\n'),
        "database url": (
            "engine: {L}\n", "export DSN='{L}'\n", "2026-05-06 ERROR cannot reach {L} (timeout)\n", "jdbc:sqlserver://db.internal:1433;databaseName=shop;user=app;password={v}\n",
            "Data Source=db.internal;Initial Catalog=shop;User ID=app;Pwd={v}\n", "pip install --index-url https://ci:{v}@pypi.corp.example/simple shop\n",
        ),
        "password": (
            "mysqldump --user=app --password='{v}' shop > dump.sql\n", "CREATE USER shop IDENTIFIED BY '{v}';\n", "curl --user deploy:{v} -T app.tgz https://files.corp.example/\n",
            "Password: {v}\n", "the new admin password was {v}, please change it\n", "net use X: \\\\files\\shop /user:deploy {v}\n",
        ),
        "basic header": ("Authorization: Basic {v}\nX-Request-Id: 7\n", "proxy-authorization: Basic {v}\n", 'http.extraHeader "Authorization: Basic {v}"\n'),
        "bearer": ("Authorization: Bearer {v}\nX-Request-Id: 7\n", "axios.defaults.headers.common['Authorization'] = 'Bearer {v}';\n", "http GET api.corp.example/me 'Authorization: Bearer {v}'\n"),
        "cookie": (
            "Cookie: _ga=GA1.2.3; sid={v}\n", "set-cookie: auth_token={v}; Max-Age=3600; HttpOnly\n", "    'Cookie': 'JSESSIONID={v}',\n",
            "#HttpOnly_shop.corp.example\tFALSE\t/\tTRUE\t0\tsession_id\t{v}\n",
        ),
        "login file": (
            "machine files.corp.example\n  login deploy\n  password {v}\n", "*:*:*:app:{v}\n", '<connection username="app" password="{v}" />\n',
            "[ftp]\nhost = files.corp.example\nuser = deploy\npass = {v}\n", "https://ci:{v}@git.corp.example\n",
        ),
        "email": ("From: Dev <{v}>\n", "{v} commented on this line\n", "assignees: ['{v}']\n"),
        "author": ("Approved-by: {v} <x@example.com>\n", "Thanks {v}, merged.\n", '<td class="who">{v}</td>\n'),
        "home folder": ("error: /home/{v}/shop/src/app.ts:12:4: unused\n", "VIRTUAL_ENV=/Users/{v}/.venvs/shop\n", '{{"cwd": "/home/{v}/shop"}}\n'),
        "phone": ("Mobile: {v}\n", "text {v} if it breaks\n"),
        "host": ("ping: {v}: Name or service not known\n", "[root@{v} ~]# uptime\n"),
    },
    split=(
        'const char *{n} =\n    "{a}"\n    "{b}";\n', "{n} = '{a}' \\\n      '{b}'\n", 'var {c} = "{a}" +\n          "{b}"\n', 'let {c} = "{a}"\n    + "{b}"\n', "ENV {N}={a}\\\n{b}\nRUN make\n",
    ),
    added=('val {c} = "{a}" + "{b}"\n', "{n} = '{a}'+'{b}'\n", '{n} = "{a}" .. "{b}"\n', 'Dim {c} = "{a}" & "{b}"\n'),
)
SETS = (FIRST, SECOND, HELD)
