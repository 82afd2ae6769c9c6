#!/bin/sh
# Creates a tenant on a trial of gold. Running it again does it once: it is a replay of the same request id.
exec grpcurl -plaintext -d '{"tenant_id": "from-grpcurl", "title": "From grpcurl", "plan_id": "gold", "trial": {}, "request_id": "example-create-tenant"}' "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.TenantService/CreateTenant
