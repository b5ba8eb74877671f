# syntax=docker/dockerfile:1
# The gateway as an image: built from the lock file in one stage, run without tools, sources or root rights in the other.
#   docker build -t forestall .
#   docker run -p 10809:10809 -p 8080:8080 -v forestall:/var/lib/forestall forestall
# serves the three embedded nodes of config/container.yaml; for your own nodes add -v ./gateway.yaml:/etc/forestall/gateway.yaml:ro.

FROM node:20.20.2-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --engine-strict --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts ./scripts
COPY config ./config
COPY replication ./replication
COPY pfa ./pfa
COPY gateway ./gateway
COPY native-free-bench ./native-free-bench
RUN npm run build && npm prune --omit=dev --no-audit --no-fund

FROM node:20.20.2-bookworm-slim
ENV NODE_ENV=production
WORKDIR /opt/forestall
COPY --from=build /build/node_modules ./node_modules
COPY --from=build /build/dist ./dist
COPY package.json LICENSE ./
COPY config ./config
COPY config/container.yaml /etc/forestall/gateway.yaml
RUN mkdir -p /var/lib/forestall && chown node:node /var/lib/forestall
USER node
VOLUME ["/var/lib/forestall"]
EXPOSE 10809 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8080/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "dist/gateway/main.js"]
CMD ["serve", "--config", "/etc/forestall/gateway.yaml"]
