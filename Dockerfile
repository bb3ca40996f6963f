FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /app
COPY .constraints.txt ./
RUN python -m venv .venv \
    && .venv/bin/python -m pip install --constraint .constraints.txt --upgrade pip
COPY pyproject.toml README.md LICENSE ./
COPY api api
COPY shared shared
COPY workers workers
# No dependency groups: the image holds what serves and nothing that tests.
RUN .venv/bin/python -m pip install --constraint .constraints.txt --build-constraint .constraints.txt .

FROM python:3.11-slim
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DAEGI_ENVIRONMENT=production \
    DAEGI_HOST=0.0.0.0 \
    DAEGI_PORT=8000
WORKDIR /app
COPY --from=build /app/.venv .venv
# By number, which is what an orchestrator can check not to be root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"DAEGI_PORT\"]}/healthz', timeout=2)"]
CMD ["python", "-m", "api"]
