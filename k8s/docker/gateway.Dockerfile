# The public gRPC server: base dependencies only, no torch, ray or feast.
# docker build -f k8s/docker/gateway.Dockerfile -t driftline-gateway:0.1.0 .
ARG PYTHON=python:3.11.10-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv /opt/venv
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY clients/python clients/python
COPY services services
COPY feature_repo feature_repo
RUN /opt/venv/bin/pip install --no-cache-dir -c constraints.txt ./clients/python .

FROM ${PYTHON}
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TZ=UTC
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin driftline
COPY --from=build /opt/venv /opt/venv
USER 10001:10001
WORKDIR /tmp
EXPOSE 50051 9464
# For plain Docker; Kubernetes asks grpc.health.v1 itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "import grpc; from grpc_health.v1 import health_pb2, health_pb2_grpc; stub = health_pb2_grpc.HealthStub(grpc.insecure_channel('127.0.0.1:50051')); raise SystemExit(stub.Check(health_pb2.HealthCheckRequest(), timeout=3).status != 1)"]
CMD ["python", "-m", "services.gateway.main"]
