# Build: what pip needs stays in this stage.
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# a compiler, for gunicorn's C parser and for authsvc's own modules
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /opt/authsvc
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY authsvc ./authsvc
RUN pip --python /opt/authsvc/bin/python install --compile .

# Run: Python, authsvc, nothing that builds or installs.
FROM python:3.11-slim
RUN python -m pip uninstall -y --quiet setuptools wheel pip && rm -rf /usr/local/lib/python3.11/ensurepip
COPY --from=build /opt/authsvc /opt/authsvc
ENV PATH=/opt/authsvc/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    AUTHSVC_CONFIG=/etc/authsvc/authsvc.yaml
USER 65532:65532
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["authsvc", "serve", "--bind", "0.0.0.0:8000"]
CMD ["--workers", "1"]
