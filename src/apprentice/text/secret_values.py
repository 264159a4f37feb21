"""Does a value look like a secret? Judged by its characters alone; who asks brings the context.

    value --is_placeholder()--> `changeme`, `${TOKEN}`, `os.environ["X"]`: stands for a secret that is elsewhere
    value --looks_random()-->   drawn by a machine from a large alphabet: a key wherever it stands
    value --is_documented()-->  an example out of a vendor's documentation
    value --looks_drawn()-->    of digits and letters of one case, as ids of sessions are
    value --looks_chosen()-->   could be a password that a person or a generator chose: a secret behind a telling name

Random strings betray themselves by how often neighbours are of different kinds (lower, upper, digit): 62% in random
base62, about 20% in identifiers, whose words keep together. Hashes in hexadecimal and UUIDs are no secrets without a
telling name: source code is full of them.
"""

from __future__ import annotations

import math
import re
from collections import Counter

_KINDS = bytes(
    97 if 97 <= byte <= 122 else 65 if 65 <= byte <= 90 else 48 if 48 <= byte <= 57 else 46 for byte in range(256)
)
"""lower -> a, upper -> A, digit -> 0, anything else -> dot"""
_HEX_OR_UUID = re.compile(rb"(?:0[xX])?[0-9a-fA-F]+(?:-[0-9a-fA-F]+)*")
_SEQUENCES = (b"abcdefg", b"ABCDEFG", b"0123456", b"1234567", b"aAbBcC", b"AaBbCc", b"qwerty")
_STANDS_FOR = re.compile(
    rb"<[^<>]*>|\$\{.*|\$[A-Za-z_(].*|\{\{.*|\{[\w.:!]*\}|%\(\w+\)s|%[A-Za-z_]+%?|\[[\w .-]*\]|\*{3,}|\.{3,}|x{3,}|X{3,}|"
    rb"(?i:none|null|nil|true|false|undefined|empty|optional|required|string|bytes|str|int|bool|any|self|default|"
    rb"changeme|(?:change|replace|fill|set|edit)[-_ ]?(?:me|it|this|in)|todo|fixme|redacted|masked|hidden|dummy|fake|invalid|"
    rb"pass(?:word|wd|phrase|code)?|pwd|secret|token|key|api[-_]?key|credentials?|user(?:name)?|basic|bearer|"
    rb"(?:an?|my|the|your|some|user|new|old|test|example|sample|wrong|bad|good|incorrect|correct)?[-_ ]?"
    rb"(?:super[-_ ]?)?(?:pass(?:word|wd|phrase)?|secret|token|key|api[-_]?key|access[-_]?token|credentials?)"
    rb"[-_ ]?(?:here|value|string|goes[-_ ]here|\d{1,3})?)"
)
_SPEAKS_OF = re.compile(rb"(?i)example|placeholder|change[-_]?me|your[-_]|<|\.\.\.|x{5,}|\*{3,}|redacted|dummy|insert[-_]")
_CAPITALIZED = re.compile(rb"[A-Z][a-z]{2,}")
_CODE = re.compile(
    rb"[A-Za-z_][\w]*(?:(?:\.|::|->)[A-Za-z_]\w*)+|"  # attribute access
    rb"[a-z]+(?:[_-][a-z]+)*|[A-Z]+(?:_[A-Z]+)*|(?:[A-Z]?[a-z]+)(?:[A-Z][a-z]+)*\d?|"  # identifiers without digits
    rb"[a-z]+(?:_[a-z]+)*_?\d{1,2}|arn:[\w:/.*-]+|"  # numbered identifiers, names of cloud resources
    rb"(?:\.{0,2}/)?[\w.-]+(?:/[\w.{}-]+)+/?|[a-z][a-z+.-]*://.*|#?[0-9]+(?:\.[0-9]+)*%?"  # paths, URLs, numbers
)


_EXAMPLES = frozenset(
    b"sk_test_4eC39HqLyjWDarjtT1zdp7dc sk_test_BQokikJOvBiI2HlWgH4olfQ2 pk_test_TYooMQauvdEDq54NiTphI7jx "
    b"pk_test_6pRNASCoBOKtIshFeQd4XMUh sk_test_tR3PYbcVNZZ796tH88S4VQ2u sk_test_26PHem9AhJZvU623DfE1x4sd "  # Stripe
    b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw ghp_16C7e42F292c6912E7710c838347Ae178B4a "  # Svix, GitHub
    b"QWxhZGRpbjpvcGVuIHNlc2FtZQ== QWxhZGRpbjpPcGVuU2VzYW1l 2YotnFZFEjr1zCsicMWpAA tGzv3JOkF0XG5Qx2TlKWIA "
    b"czZCaGRSa3F0MzpnWDFmQmF0M2JW 7Fjfp0ZBr1KtDRbnfVdmIw "  # RFC 6749, 6750, 7617
    b"SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c".split()  # jwt.io
)
_EXAMPLE_FORMS = re.compile(
    rb"(?:A[KS]IA[A-Z0-9]{8,13}|[A-Za-z0-9+/]{20,33})EXAMPLE(?:KEY)?|"  # AWS
    rb"[\w-]{0,24}?([xX*0])\1{11,}|"
    rb"[\w-]+\.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9l[\w-]*\.[\w-]*"  # jwt.io
)
"""Keys that vendors and standards print in their documentation, and everybody copies from there."""


def is_documented(value: bytes) -> bool:
    """Whether it is a well-known example, which opens nothing."""
    return value.rstrip(b":") in _EXAMPLES or _EXAMPLE_FORMS.fullmatch(value) is not None


def is_placeholder(value: bytes) -> bool:
    """Whether the value only stands for a secret."""
    return _STANDS_FOR.fullmatch(value) is not None or len(set(value[:512])) <= 2


def looks_random(value: bytes, *, shortest: int = 20) -> bool:
    """Whether a machine drew it from a large alphabet."""
    core = value.rstrip(b"=")
    if len(core) < shortest or _HEX_OR_UUID.fullmatch(core) or any(part in core for part in _SEQUENCES):
        return False
    kinds = core.translate(_KINDS)
    digits, lower, upper = kinds.count(b"0"), kinds.count(b"a"), kinds.count(b"A")
    if not digits or digits > 0.6 * len(core) or not lower + upper:
        return False
    separators = len(core) - digits - lower - upper
    both_cases = lower >= 3 and upper >= 3
    if len(core.translate(None, b"0123456789abcdef")) <= 0.15 * len(core):
        return False
    if separators > (0.2 * len(core) if both_cases else 0):
        return False
    if not both_cases and (bool(lower and upper) or len(core) < shortest + 10 or digits < 4):
        return False
    least_entropy = min(3.5, 0.8 * math.log2(len(core)))
    least_changes = 0.25 if not both_cases else 0.38 if digits > 1 else 0.45
    return changes_of_kind(core) >= least_changes and entropy(core) >= least_entropy


def looks_chosen(value: bytes, *, shortest: int = 6) -> bool:
    """Whether it could be a password: mixed characters, no identifier, path, number, sentence or placeholder."""
    if not shortest <= len(value) <= 512 or is_placeholder(value):
        return False
    if looks_random(value, shortest=16):
        return True
    if any(byte in b" \t\n" for byte in value) or _SPEAKS_OF.search(value) or _is_code(value):
        return False
    kinds = set(value.translate(_KINDS))
    return len(kinds) >= 2 and len(set(value)) >= 4


def _is_code(value: bytes) -> bool:
    """Names, access to attributes, paths, numbers; but not where one of the parts is drawn: `UDw0swblTD.Xv7`."""
    if _CODE.fullmatch(value) is None:
        return False
    return not any(is_mixed_case(part) and re.search(rb"[0-9]", part) and len(part) >= 8 for part in value.split(b".")) or b"/" in value or b"." not in value


def looks_drawn(value: bytes) -> bool:
    """Whether it could be the id of a session: at least 16 letters and digits, of one case or hexadecimal too."""
    core = value.replace(b"-", b"").replace(b"_", b"")
    if len(core) < 16 or not core.isalnum() or any(part in core for part in _SEQUENCES):
        return False
    digits = sum(48 <= byte < 58 for byte in core)
    return 2 <= digits < len(core) and changes_of_kind(core) >= 0.1 and entropy(core) >= 3.0 and not made_of_words(core)


def changes_of_kind(value: bytes) -> float:
    """Share of neighbouring letters and digits that are of different kinds, 0 to 1."""
    kinds = value.translate(_KINDS)
    pairs = [kinds[i : i + 2] for i in range(len(kinds) - 1) if b"." not in kinds[i : i + 2]]
    return sum(pair[0] != pair[1] for pair in pairs) / max(1, len(pairs))


def is_mixed_case(value: bytes) -> bool:
    """`dCicMVFlALPh`: letters whose case changes as in random ones, not as in names."""
    return len(value) >= 6 and not made_of_words(value) and changes_of_kind(value) >= 0.3


def made_of_words(value: bytes) -> bool:
    """`Wav2Vec2FeatureExtractor`: capitalized words cover most of it. Of random base62 they cover a quarter."""
    return sum(len(word) for word in _CAPITALIZED.findall(value)) >= 0.6 * len(value)


def entropy(value: bytes) -> float:
    """Bits per byte."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values())
