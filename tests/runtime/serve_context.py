"""A call as Ray Serve hands it over, without Ray."""

import grpc
from google.protobuf import message_factory

from services.runtime.validation import shared_rules


class Context:
    """Records what Ray Serve's context is told."""

    def __init__(self, *metadata):
        self.metadata, self.code, self.details, self.trailing = metadata, None, "", {}

    def invocation_metadata(self):
        return self.metadata

    def set_code(self, code):
        self.code = code

    def set_details(self, details):
        self.details = details

    def set_trailing_metadata(self, trailing_metadata):
        self.trailing = dict(trailing_metadata)


async def codes_without_token(application, service):
    """Call every RPC of an application that asks for a token, showing none; return their codes.

    Args:
        application: the class that Serve makes replicas of; its handler is never reached.
        service: its descriptor.
    """
    replica = object.__new__(application)
    replica._handler, replica._rules, replica._token = Unreached(), shared_rules(), "secret"
    codes = {}
    for method in service.methods:
        context = Context()
        request = message_factory.GetMessageClass(method.input_type)()
        await getattr(replica, method.name)(request, context)
        codes[method.name] = context.code
    return codes


class Unreached:
    """A handler that must not be called."""

    def __getattr__(self, name):
        async def method(request):
            raise AssertionError(f"{name} was called")

        return method


UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
