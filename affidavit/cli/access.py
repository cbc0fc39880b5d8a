# SPDX-License-Identifier: Apache-2.0
"""Commands about who may do what: principal and request."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, open_existing
from affidavit.cli.output import note, print_json, say
from pipeline.access.policy import Right, Role

if TYPE_CHECKING:
    from pipeline.access.principals import Issued
    from storage.tables import ChangeRequestTable

_principal = typer.Typer(
    help="Say who may do what.", no_args_is_help=True, rich_markup_mode=None
)
_request = typer.Typer(
    help="Give the second word that some changes need.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameArgument = Annotated[
    str,
    typer.Argument(
        help="The principal's name, an account's and no person's.", metavar="NAME"
    ),
]
ScopeOption = Annotated[
    list[Right] | None,
    typer.Option("--scope", help="Limit the token to this right; may be repeated."),
]
DaysOption = Annotated[
    float, typer.Option("--days", help="How long the token holds, at most 400 days.")
]
RequestArgument = Annotated[
    str, typer.Argument(help="The request's id.", metavar="REQUEST")
]


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    _principal.command("add")(add)
    _principal.command("renew")(renew)
    _principal.command("list")(list_)
    _principal.command("revoke")(revoke)
    app.add_typer(_principal, name="principal")
    _request.command("list")(list_requests)
    _request.command("approve")(approve)
    _request.command("refuse")(refuse)
    app.add_typer(_request, name="request")


def add(
    name: NameArgument,
    *,
    role: Annotated[
        list[Role], typer.Option("--role", help="What it is here for; repeatable.")
    ],
    scope: ScopeOption = None,
    days: DaysOption = 90,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Add a principal and show its token, once."""
    from pipeline.access import principals  # noqa: PLC0415

    with open_existing(home, Right.MANAGE_ACCESS) as services:
        issued = principals.add(
            services, name, roles=role, scopes=scope or None, days=days
        )
    _show(issued, json=json)


def renew(
    name: NameArgument,
    *,
    scope: ScopeOption = None,
    days: DaysOption = 90,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Give a principal a new token; its old one opens nothing any more."""
    from pipeline.access import principals  # noqa: PLC0415

    with open_existing(home, Right.MANAGE_ACCESS) as services:
        issued = principals.renew(services, name, scopes=scope or None, days=days)
    _show(issued, json=json)


def _show(issued: "Issued", *, json: bool) -> None:
    if json:
        print_json(
            {
                "principal": issued.name,
                "token": issued.token,
                "expires_at": issued.expires_at,
            }
        )
        return
    say(issued.token)
    note(
        f"The token of '{issued.name}', valid until {_day(issued.expires_at)}; it is "
        "shown this once. Its owner sets it as AFFIDAVIT_TOKEN."
    )


def list_(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """List the principals, their roles and how long their tokens hold."""
    from pipeline.access import principals  # noqa: PLC0415

    with open_existing(home, Right.MANAGE_ACCESS) as services:
        found = principals.list_all(services)
    if json:
        print_json({"principals": found})
        return
    if not found:
        say("There are no principals: whoever reaches the database may do everything.")
    for one in found:
        say(f"{one['name']:<24} {', '.join(one['roles']):<32} {_validity(one)}")


def _validity(principal: dict[str, Any]) -> str:
    if principal["revoked_at"] is not None:
        return f"revoked {_day(principal['revoked_at'])}"
    expires_at = principal["expires_at"]
    return "no token" if expires_at is None else f"until {_day(expires_at)}"


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(moment))


def revoke(
    name: NameArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Let a principal do nothing any more."""
    from pipeline.access import principals  # noqa: PLC0415

    with open_existing(home, Right.MANAGE_ACCESS) as services:
        principals.revoke(services, name)
    if json:
        print_json({"principal": name, "revoked": True})
    else:
        say(f"The principal '{name}' is revoked.")


def list_requests(*, json: JsonOption = False, home: HomeOption = None) -> None:
    """List the changes that wait, or waited, for a second word."""
    from pipeline.access.second_word import read_requests  # noqa: PLC0415

    with open_existing(home, Right.LIST_REQUESTS) as services:
        found = [_document(request) for request in read_requests(services)]
    if json:
        print_json({"requests": found})
        return
    if not found:
        say("No change waits for a second word.")
    for one in found:
        say(
            f"{one['request']}  {one['state']:<9} {one['kind']:<10} {one['object']}  "
            f"asked by {one['requested_by']}"
        )


def approve(
    request: RequestArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Agree to a change that somebody else asked for."""
    _decide(request, agree=True, json=json, home=home)


def refuse(
    request: RequestArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Refuse a change that somebody else asked for."""
    _decide(request, agree=False, json=json, home=home)


def _decide(request: str, *, agree: bool, json: bool, home: Any) -> None:
    from pipeline.access.second_word import give_word  # noqa: PLC0415

    with open_existing(home, Right.LIST_REQUESTS) as services:
        document = _document(give_word(services, request, agree=agree))
    if json:
        print_json(document)
    else:
        say(f"The request {document['request']} is {document['state']}.")


def _document(request: "ChangeRequestTable") -> dict[str, Any]:
    return {
        "request": request.id,
        "kind": request.kind,
        "object": request.object,
        "digest": request.digest,
        "state": str(request.state),
        "requested_by": request.requested_by,
        "created_at": request.created_at,
        "decided_by": request.decided_by,
        "decided_at": request.decided_at,
    }
