"""A gateway with a key, a token and a password, all failing in turn: its log and its answers know none of them."""

import time
from contextlib import suppress
from pathlib import Path

import grpc
from driftline.v1 import interest_service_pb2 as pb
from driftline.v1 import interest_service_pb2_grpc as pb_grpc
from driftline.v1 import model_service_pb2, model_service_pb2_grpc

from services.core.access import Scope
from services.runtime.settings import Settings
from services.store.api_keys import KeyFile
from services.store.layout import Layout
from tests.gateway.process import gateway, publish
from tests.gateway.world import NOW, catalogue, ranker
from tests.leftovers import CREDENTIAL
from tests.runtime.test_tokens import Issuer

PASSWORD = "planted-password"
REDIS = f"redis://user:{PASSWORD}@127.0.0.1:1/0"
REGISTRY = f"postgresql+psycopg://user:{PASSWORD}@127.0.0.1:1/x"


def filled(folder: Path) -> tuple[dict[str, object], list[str]]:
    """Return settings with every secret there is, and credentials: good, and bad in each way."""
    layout = Layout(folder, 8)
    publish(layout, catalogue(), ranker())
    file = KeyFile(folder / "keys.json")
    good, revoked = (
        file.create(tenant="default", scopes=frozenset(Scope), name="x", now=NOW) for _ in range(2)
    )
    file.revoke(revoked.row.key_id, now=NOW)
    issuer = Issuer()
    (folder.parent / "jwks.json").write_bytes(issuer.key_set())
    good_token = issuer.token(tenant="default", exp=time.time() + 600)
    late_token = issuer.token(tenant="default", exp=time.time() - 600)
    settings = {
        "auth": "required", "jwt_key_set": str(folder.parent / "jwks.json"), "metrics_port": 0,
        "jwt_issuer": "https://id.example", "jwt_audience": "driftline", "log_level": "debug",
        "online_store": "redis", "redis_url": REDIS, "registry_url": REGISTRY,
    }  # fmt: skip
    spoiled = good.secret[:-2] + "zz"
    return settings, [good.secret, good_token, revoked.secret, spoiled, late_token, PASSWORD]


def test_no_secret_is_in_the_log_or_in_an_answer(tmp_path):
    settings, credentials = filled(tmp_path / "data")
    said = []
    with gateway(tmp_path / "data", **settings) as running:
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            interests = pb_grpc.InterestServiceStub(channel)
            models = model_service_pb2_grpc.ModelServiceStub(channel)
            for credential in credentials:
                metadata = (("authorization", f"Bearer {credential}"),)
                with suppress(grpc.RpcError):
                    models.ListModels(model_service_pb2.ListModelsRequest(), metadata=metadata)
                try:
                    # Its store is not there: the error may say so, not how it is opened.
                    interests.GetInterest(pb.GetInterestRequest(user_id="u"), metadata=metadata)
                except grpc.RpcError as error:
                    said.append(f"{error.code()} {error.details()} {error.trailing_metadata()}")
        running.process.terminate()
        running.process.wait(20)
        log = running.log.read_text()
    assert log.count('"event": "rpc"') == 2 * len(credentials)
    assert [text.split()[0] for text in said].count("StatusCode.UNAVAILABLE") == 2
    for text in (log, *said):
        assert not CREDENTIAL.search(text.encode())
        for credential in credentials:
            assert credential not in text
            # Nor a piece of it.
            assert credential[-20:] not in text


def test_settings_show_no_password():
    settings = Settings(redis_url=REDIS, registry_url=REGISTRY)
    assert PASSWORD not in repr(settings)
    assert PASSWORD not in str(settings)
    # A child process gets them all the same.
    assert PASSWORD in settings.environment()["DRIFTLINE_REDIS_URL"]
