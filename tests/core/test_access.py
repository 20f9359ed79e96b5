"""Each public RPC takes a scope, and none comes with another."""

import pytest
from google.protobuf import descriptor_pb2

from services.core.access import ANYONE, INTERNAL_SERVICES, RPC_SCOPES, Principal, Scope, authorise
from services.core.errors import PermissionDenied
from services.runtime.validation import RULES_PATH


def rpcs() -> dict[str, set[str]]:
    """Return the methods of every service in the contracts."""
    files = descriptor_pb2.FileDescriptorSet.FromString(RULES_PATH.read_bytes()).file
    return {
        f"{file.package}.{service.name}": {method.name for method in service.method}
        for file in files
        for service in file.service
    }


def test_every_public_rpc_has_a_scope_and_the_table_names_no_other():
    public = {
        f"{service}/{method}"
        for service, methods in rpcs().items()
        if service not in INTERNAL_SERVICES
        for method in methods
    }
    assert public
    ours = {name for name in RPC_SCOPES if name.startswith("driftline.")}
    assert public == ours
    assert set(INTERNAL_SERVICES) <= rpcs().keys()
    assert None not in {RPC_SCOPES[name] for name in ours}


@pytest.mark.parametrize("held", Scope)
@pytest.mark.parametrize("wanted", Scope)
def test_no_scope_includes_another(held, wanted):
    caller = Principal(tenant="t", scopes=frozenset({held}), key_id="k")
    if held is wanted:
        authorise(caller, wanted)
        return
    with pytest.raises(PermissionDenied, match=f"`{wanted}`"):
        authorise(caller, wanted)


def test_anyone_may_do_everything_to_the_default_tenant():
    for scope in Scope:
        authorise(ANYONE, scope)
    assert ANYONE.tenant == "default"
