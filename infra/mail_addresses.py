"""Mail addresses as Alertmanager accepts them, with Go's net/mail. Python's email.headerregistry accepts others, and raises TypeError for some."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from infra.addresses import host

LETTER = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
ADDRESS = rf"(?=[^@]{{1,64}}@)[{LETTER}]+(?:\.[{LETTER}]+)*@[A-Za-z0-9._-]+"
"""Pattern of an address (RFC 5322, section 3.4.1; RFC 5321, section 4.5.3.1.1). Alertmanager would send a quoted local part without its quotes."""
WORD = rf'(?:"(?:[^"\\]|\\[ -~])+"|[{LETTER}\x80-\U0010ffff][{LETTER}.\x80-\U0010ffff]*)'
MAILBOX = rf"(?:(?:{WORD}(?: +{WORD})* *)?<({ADDRESS})>|({ADDRESS}))"
"""Pattern of a mailbox (RFC 5322, section 3.4), with letters of every language in names (RFC 6532), and without comments and groups."""
ALL = re.compile(rf"{MAILBOX}(?: *, *{MAILBOX})*")
WANTED = 'wants addresses of mail, alone or as Name <address>, with commas between them; a name with one of ,:;<>@()[] stands in "quotes"'


def mail_addresses(value: str) -> str:
    """Return mail addresses separated by commas, each alone or as `Name <address>`.

    Raises:
        ValueError: one of them is invalid.
    """
    if "{{" in value:
        raise ValueError("wants no {{, with which templates of Alertmanager begin")
    # =? begins an encoded word (RFC 2047), which readers support to different extents.
    if not value.isprintable() or "=?" in value or not ALL.fullmatch(value):
        raise ValueError(WANTED)
    for address in without_names(value):
        named_host(address.rpartition("@")[2])
    return value


def mail_address(value: str) -> str:
    """Return a single mail address.

    Raises:
        ValueError: the value is invalid, or holds several addresses.
    """
    if len(without_names(mail_addresses(value))) > 1:
        raise ValueError("wants one address of mail")
    return value


def without_names(value: str) -> list[str]:
    """Return the addresses without the names."""
    return [mailbox[1] or mailbox[2] for mailbox in re.finditer(MAILBOX, value)]


def named_host(domain: str) -> None:
    """Refuse a domain that is an IP address, or no valid host.

    Raises:
        ValueError: the domain is one of these.
    """
    try:
        host(domain)
    except ValueError as error:
        raise ValueError(WANTED) from error
    if domain.endswith(".") or domain.replace(".", "").isdecimal():
        raise ValueError("wants addresses of mail with the name of a host behind the @")


FIRST: dict[str, str] = {
    "pattern": rf"^(?:[^<]*<)?[{LETTER}]+(?:\.[{LETTER}]+)*@[A-Za-z0-9._-]*[A-Za-z][A-Za-z0-9-]*>?(?: *,|$)"
}
"""Part of the JSON schema with which editors check the first address; JavaScript's patterns have no class for letters of every language."""
MailAddress = Annotated[
    str, AfterValidator(mail_address), Field(examples=["estate@example.com"], json_schema_extra={**FIRST})
]
MailAddresses = Annotated[
    str, AfterValidator(mail_addresses), Field(examples=["us@example.com"], json_schema_extra={**FIRST})
]
